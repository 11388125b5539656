"""Facts small enough for every component."""

import pytest
import torch

from divaug.config.registry import HEADS, PIXEL
from divaug.data.images import Request

COUNTS = [40, 20, 6, 2]


@pytest.fixture
def facts():
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    return {
        "labels": labels[torch.randperm(68, generator=torch.Generator().manual_seed(0))],
        "class_counts": torch.tensor(COUNTS),
        "group_counts": torch.tensor(COUNTS),
        "num_classes": 4,
        "class_names": ["ant", "bee", "cat", "dog"],
        "feature_dim": 8,
        "head_scale": 30.0,
        "total_steps": 100,
        "seed": 0,
        "encoder_features": torch.randn(68, 12, generator=torch.Generator().manual_seed(1)),
        "request": Request(),
        "channels": 3,
        "size": (32, 32),
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "parameters": [{"params": [torch.nn.Parameter(torch.ones(2, 2))], "weight_decay": 0.1}],
        "new_head": lambda: HEADS.build("linear", facts={"feature_dim": 8, "num_classes": 4}),
        "validation": None,
        "default_pixel": PIXEL.build("crop_flip", facts={}),
    }

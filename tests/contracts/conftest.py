"""Facts small enough for every component."""

import pytest
import torch

COUNTS = [40, 20, 6, 2]


@pytest.fixture
def facts():
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    return {
        "labels": labels[torch.randperm(68, generator=torch.Generator().manual_seed(0))],
        "class_counts": torch.tensor(COUNTS),
        "num_classes": 4,
        "feature_dim": 8,
        "head_scale": 30.0,
        "total_steps": 100,
        "seed": 0,
    }

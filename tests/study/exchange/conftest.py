from dataclasses import replace

import numpy as np
import pytest

from divaug.config.layers import configure
from divaug.data.halves import image_digests
from divaug.models.encoder import Encoder
from divaug.models.network import build_network
from divaug.study.exchange.plan import Arm, Design
from divaug.study.exchange.spaces import Source

ARMS = {"A": Arm(1.0, 0.5), "B": Arm(), "C": Arm(2.0, 0.5), "D": Arm(2.0)}
DESIGN = Design("digits", "longtailed", ARMS, (0, 1, 2, 3), 8, 4, steps=20, heads=30)


@pytest.fixture(scope="session")
def source():
    return Source(configure(dataset="digits"))


def encoder_of(source, seed):
    """Return an untrained encoder that says that it has seen quarter b1: its features need not be good here."""
    dataset = source.dataset
    network = build_network("whitened_cnn", 4, channels=1, size=(8, 8), seed=seed, widths=[4, 256]).eval()
    backbone = network.backbone
    backbone.requires_grad_(requires_grad=False)
    manifest = {
        "image_shape": [8, 8, 1], "mean": list(dataset.mean), "std": list(dataset.std), "dataset": "digits",
        "model": {"name": "whitened_cnn", "widths": [4, 256]}, "data_part": "b1",
    }  # fmt: skip
    return Encoder(backbone, manifest, np.unique(image_digests(dataset.train.take(source.b1))))


@pytest.fixture(scope="session")
def encoders(source):
    return [encoder_of(source, seed) for seed in (0, 1)]


@pytest.fixture
def design():
    return replace(DESIGN)

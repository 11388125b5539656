"""A new head on frozen embeddings."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional as F

from divaug.base.rng import stream


def train_head(
    head: Any,
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, "N"],
    *,
    epochs: int = 10,
    lr: float = 0.1,
    batch_size: int = 128,
    seed: int = 0,
) -> None:
    """Train a head from its current weights: SGD with momentum 0.9, cross-entropy, a cosine learning rate to 0.

    Args:
        head: Maps FE to logits; changed in place.
        features: FE, ``(N, D)``.
        labels: Classes.
        epochs: Passes, >= 1.
        lr: Initial learning rate, > 0.
        batch_size: Rows per step.
        seed: Seed of the order.

    Reference:
        Dablain et al., arXiv:2207.06080: ten epochs.

    Differs from the paper: it states neither learning rate nor batch size; these are ours.
    """
    z, y = torch.from_numpy(features).float(), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr, momentum=0.9)
    steps = math.ceil(len(y) / batch_size)
    for epoch in range(epochs):
        order = torch.from_numpy(stream(seed, "posthoc", epoch).permutation(len(y)))
        for step, rows in enumerate(order.split(batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (epoch + step / steps) / epochs))
            optimizer.zero_grad()
            F.cross_entropy(head(z[rows]), y[rows]).backward()
            optimizer.step()

"""What heads on frozen embeddings share: their training, and a linear head of given weights."""

import math
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional as F

from divaug.base.contracts import Head
from divaug.base.errors import ConfigError
from divaug.base.rng import ClassDraw, stream
from divaug.models.heads import LinearHead
from divaug.optim.sgd import EagerSGD


def train_head(
    head: Any,
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, "N"],
    *,
    epochs: int = 10,
    lr: float = 0.1,
    batch_size: int = 128,
    seed: int = 0,
    balanced: bool = False,
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
        balanced: Draw every class equally often, with replacement, instead of passing through all rows.

    Rate and epochs suit features of norms of about ten and more. Of much shorter ones a head learns little in them.

    Reference:
        Dablain et al., arXiv:2207.06080: ten epochs; rate, batches and momentum as in the authors' code.

    Differs from the paper: their code has a weight decay of 2e-4, this has none; the cosine is ours.
    """
    z, y = torch.from_numpy(features).float(), torch.from_numpy(labels)
    optimizer = EagerSGD(head.parameters(), lr=lr, momentum=0.9)
    steps = math.ceil(len(y) / batch_size)
    draw = ClassDraw(y, (torch.bincount(y) > 0).double()) if balanced else None
    for epoch in range(epochs):
        rng = stream(seed, "posthoc", epoch)
        order = torch.from_numpy(rng.permutation(len(y))) if draw is None else draw.draw(rng, len(y))
        for step, rows in enumerate(order.split(batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (epoch + step / steps) / epochs))
            optimizer.zero_grad()
            F.cross_entropy(head(z[rows]), y[rows]).backward()
            optimizer.step()


def linear_head(weight: Float[np.ndarray, "C D"], bias: Float[np.ndarray, "C"] | None = None) -> Head:
    """Return a linear head of given weights; without a bias it is 0."""
    classes, dimensions = weight.shape
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and overwritten
        head = LinearHead(dimensions, classes)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        head.bias.copy_(torch.zeros(classes) if bias is None else torch.from_numpy(np.ascontiguousarray(bias)))
    return cast(Any, head)  # a Parameter is a Tensor


def weights_of(head: Any, method: str) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, "C"]]:
    """Return weight and bias of a linear head.

    Raises:
        ConfigError: It is another head, whose logits these do not describe.
    """
    if not isinstance(head, LinearHead):
        raise ConfigError(f"{method} changes the weights of a linear head, and this is a {type(head).__name__}")
    return head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()

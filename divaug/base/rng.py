"""Random streams: stateless generators keyed by name, so that no state needs saving; and class draws."""

from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def stream(seed: int, name: str, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """Return the generator for one purpose at one step; equal arguments give equal draws.

    Streams with different names are independent, so swapping one component leaves every other draw unchanged, and
    a resumed run needs no generator state.

    Args:
        seed: The run's seed, >= 0.
        name: The purpose ("pixel", "mix", "sampler", ...).
        epoch: Epoch counted from 0.
        step: Step within the epoch, from 0.

    Example:
        >>> from divaug import stream
        >>> first, again, other = stream(0, "mix"), stream(0, "mix"), stream(0, "mix", epoch=1)
        >>> number = first.random()
        >>> number == again.random(), number == other.random()
        (True, False)
    """
    return np.random.default_rng([seed, crc32(name.encode()), epoch, step])


def torch_seed(rng: np.random.Generator) -> int:
    """Draw a seed for torch's own generators."""
    return int(rng.integers(2**63))


def device_generator(rng: np.random.Generator, device: torch.device | str) -> torch.Generator:
    """Return a torch generator on ``device``, seeded by one draw of ``rng``."""
    return torch.Generator(device).manual_seed(torch_seed(rng))


class ClassDraw:
    """Draw images with replacement: a class with a given probability, then one of its images.

    O(N) once and O(M) for M draws. torch's WeightedRandomSampler refuses more than 2**24 images and is inexact below
    that; two draws of plain integers have no such limit.

    Args:
        labels: Class of every image.
        weights: Weight >= 0 of each class, scaled to probabilities here.

    Raises:
        ValueError: A class has weight but no images, or a weight is not finite.
    """

    def __init__(self, labels: Int[Tensor, "N"], weights: Float[Tensor, "C"]) -> None:
        self.probs = (weights / weights.sum()).double()
        if not torch.isfinite(self.probs).all():
            raise ValueError(f"weights of classes must be finite and not all 0, got {weights.tolist()}")
        self.counts = np.bincount(labels.numpy(), minlength=len(weights))
        if empty := np.flatnonzero((self.counts == 0) & (self.probs.numpy() > 0)).tolist():
            raise ValueError(f"classes {empty} have no images")
        self.by_class = np.argsort(labels.numpy(), kind="stable")
        self.starts = np.cumsum(self.counts) - self.counts

    def draw(self, rng: np.random.Generator, rows: int) -> Int[Tensor, "M"]:
        """Return ``rows`` image indices."""
        classes = rng.choice(len(self.probs), size=rows, p=self.probs.numpy())
        return torch.from_numpy(self.by_class[self.starts[classes] + rng.integers(self.counts[classes])])

"""Ties augmentations that draw for themselves, image by image, to divaug's draws: the plan is one seed per row."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

Seeds = Int[np.ndarray, "B"]


class Seeded:
    """Base of components whose plan is one seed per row."""

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> Seeds:
        """Draw a seed for each row."""
        return rng.integers(2**32, size=len(labels))


class TorchvisionPixel(Seeded):
    """Base of components that are a transform of torchvision v2.

    Args:
        transform: Takes and returns a PIL image; draws from torch's global generator, which is restored afterwards.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: Seeds, i: int) -> UInt8[np.ndarray, "H2 W2 ch"]:
        """Transform row ``i``'s image with its seed."""
        picture = to_pil(image)
        state = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(int(plan[i]))
            picture = self.transform(picture)
        finally:
            torch.set_rng_state(state)
        return from_pil(picture)


def to_pil(image: UInt8[np.ndarray, "H W ch"]) -> Image.Image:
    """Return a PIL image, grey for one channel."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def from_pil(picture: Image.Image) -> UInt8[np.ndarray, "H W ch"]:
    """Return a PIL image as an array with channels last."""
    array = np.asarray(picture)
    return array[:, :, None].copy() if array.ndim == 2 else array.copy()

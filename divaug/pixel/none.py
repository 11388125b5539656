import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor

from divaug.config.registry import PIXEL


@PIXEL.register("none")
class NoPixel:
    """Leave every image as it is.

    Differs from the paper: there is none.
    """

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> None:
        """Draw nothing."""

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: None, i: int) -> UInt8[np.ndarray, "H W ch"]:
        """Return the image."""
        return image

    def apply(self, images: UInt8[Tensor, "B H W ch"], plan: None) -> UInt8[Tensor, "B H W ch"]:
        """Return the images."""
        return images

from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor

from divaug.base.contracts import Pixel, built
from divaug.config.registry import PIXEL


@PIXEL.register("chain")
class Chain:
    """Apply several components in order; ``default+cutout`` is short for the chain of these two.

    Args:
        steps: Pixel components by name or as tables with a name, in order.

    Differs from the paper: there is none.
    """

    def __init__(self, *, steps: list[Pixel]) -> None:
        if not steps:
            raise ValueError("steps must name at least one pixel component")
        self.steps = [built(step, "steps") for step in steps]
        if learning := [type(step).__name__ for step in self.steps if step.learns]:
            raise ValueError(f"steps holds {learning[0]}, which learns its own strengths: use it alone")
        self.batched = all(step.batched for step in self.steps)

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> list[Any]:
        """Draw every step's plan, in order: the first step draws what it would draw alone."""
        return [step.sample(labels, size, rng) for step in self.steps]

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: list[Any], i: int) -> UInt8[np.ndarray, "H2 W2 ch"]:
        """Apply every step to row ``i``'s image."""
        for step, drawn in zip(self.steps, plan, strict=True):
            image = step.apply_one(image, drawn, i)
        return image

    def apply(self, images: UInt8[Tensor, "B H W ch"], plan: list[Any]) -> UInt8[Tensor, "B H2 W2 ch"]:
        """Apply every step to a batch."""
        for step, drawn in zip(self.steps, plan, strict=True):
            images = step.apply(images, drawn)
        return images

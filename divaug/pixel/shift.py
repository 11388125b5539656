import numpy as np
from jaxtyping import Int
from torch import Tensor

from divaug.config.registry import PIXEL
from divaug.pixel._translate import TranslatePlan, draw, translate, translate_one


@PIXEL.register("shift")
class Shift:
    """Shift each image by a few pixels over a black border, without mirroring: for digits and letters.

    Args:
        reach_frac: Largest shift as a share of each side, in [0, 1): 0.125 is 1 pixel of 8 and 4 of 32; 0 does nothing.

    Differs from the paper: there is none; it is ``crop_flip`` without the flip.
    """

    strengths = ({"reach_frac": 0.06}, {"reach_frac": 0.125}, {"reach_frac": 0.3})

    def __init__(self, *, reach_frac: float = 0.125) -> None:
        if not 0 <= reach_frac < 1:
            raise ValueError(f"reach_frac must lie in [0, 1), got {reach_frac}")
        self.reach_frac = reach_frac

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> TranslatePlan:
        """Draw a shift for each row."""
        return draw(len(labels), size, self.reach_frac, 0.0, rng)

    apply_one = staticmethod(translate_one)
    apply = staticmethod(translate)

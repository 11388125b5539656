import numpy as np
from jaxtyping import Int
from torch import Tensor

from divaug.config.registry import PIXEL
from divaug.pixel._translate import TranslatePlan, draw, translate, translate_one


@PIXEL.register("crop_flip")
class CropFlip:
    """Pad with black, crop back to the same size at a random place, mirror half of the images.

    Args:
        pad_frac: Padding as a share of each side, in [0, 1): 0.125 is 4 pixels of 32.
        flip: Probability of mirroring left to right, in [0, 1].

    Reference:
        He et al., Deep Residual Learning, CVPR 2016, arXiv:1512.03385, section 4.2.

    Differs from the paper: nothing at 32x32; the padding grows with the image.
    """

    strengths = ({"pad_frac": 0.06}, {"pad_frac": 0.125}, {"pad_frac": 0.3})

    def __init__(self, *, pad_frac: float = 0.125, flip: float = 0.5) -> None:
        if not 0 <= pad_frac < 1:
            raise ValueError(f"pad_frac must lie in [0, 1), got {pad_frac}")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip must lie in [0, 1], got {flip}")
        self.pad_frac, self.flip = pad_frac, flip

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> TranslatePlan:
        """Draw a shift and a mirroring for each row."""
        return draw(len(labels), size, self.pad_frac, self.flip, rng)

    apply_one = staticmethod(translate_one)
    apply = staticmethod(translate)

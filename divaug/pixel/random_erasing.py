import math

import numpy as np
from jaxtyping import Int
from torch import Tensor

from divaug.config.registry import PIXEL
from divaug.pixel._erase import ErasePlan, erase, erase_one

TRIES = 10


@PIXEL.register("random_erasing", tune={"prob": (0.1, 0.9)})
class RandomErasing:
    """Replace a rectangle of random size and shape with noise.

    Args:
        prob: Share of images that are erased, in [0, 1].
        smallest: Smallest area as a share of the image's, in (0, 1].
        largest: Largest area, likewise, in [smallest, 1].
        aspect: Smallest ratio of the sides, in (0, 1]; the largest is its inverse.

    Reference:
        Zhong et al., Random Erasing Data Augmentation, AAAI 2020, arXiv:1708.04896 (RE-R, noise per pixel).

    Differs from the paper: a rectangle that does not fit is redrawn at most ten times (as in torchvision and timm);
    aspect ratios are log-uniform, so that upright and flat rectangles are equally frequent.
    """

    strengths = ({"largest": 0.1}, {"largest": 0.4}, {"smallest": 0.3})

    def __init__(self, *, prob: float = 0.5, smallest: float = 0.02, largest: float = 0.4, aspect: float = 0.3) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in [0, 1], got {prob}")
        if not 0 < smallest <= largest <= 1:
            raise ValueError(f"0 < smallest <= largest <= 1 must hold, got {smallest} and {largest}")
        if not 0 < aspect <= 1:
            raise ValueError(f"aspect must lie in (0, 1], got {aspect}")
        self.prob, self.area, self.aspect = prob, (smallest, largest), -math.log(aspect)

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> ErasePlan:
        """Draw a rectangle for each row."""
        rows, (height, width) = len(labels), size
        area = rng.uniform(*self.area, (TRIES, rows)) * height * width
        aspect = np.exp(rng.uniform(-self.aspect, self.aspect, (TRIES, rows)))
        down, across = np.sqrt(area * aspect).round(), np.sqrt(area / aspect).round()
        fits = (down >= 1) & (across >= 1) & (down < height) & (across < width)
        first, row = fits.argmax(0), np.arange(rows)
        down, across = down[first, row].astype(np.int64), across[first, row].astype(np.int64)
        erased = (rng.random(rows) < self.prob) & fits.any(0)
        top = (rng.random(rows) * np.maximum(1, height - down + 1)).astype(np.int64)
        left = (rng.random(rows) * np.maximum(1, width - across + 1)).astype(np.int64)
        boxes = np.where(erased[:, None], np.stack([top, top + down, left, left + across], 1), 0)
        return ErasePlan(boxes, -1, rng.integers(2**63, size=rows))

    apply_one = staticmethod(erase_one)
    apply = staticmethod(erase)

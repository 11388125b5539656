import numpy as np
from jaxtyping import Int
from torch import Tensor

from divaug.config.registry import PIXEL
from divaug.pixel._erase import ErasePlan, erase, erase_one


@PIXEL.register("cutout", tune={"size_frac": (0.2, 0.6), "prob": (0.2, 1.0)})
class Cutout:
    """Erase a square at a random place, partly outside the image at its border.

    Args:
        size_frac: Side of the square as a share of each side of the image, in [0, 1]: 0.5 is 16 pixels of 32.
        prob: Share of images that are erased, in [0, 1].
        fill: Grey of the square, 0 to 255.

    Reference:
        DeVries and Taylor, Improved Regularization of CNNs with Cutout, 2017, arXiv:1708.04552.

    Differs from the paper: the square is grey; in the paper it has the data set's mean colour.
    """

    strengths = ({"size_frac": 0.25}, {"size_frac": 0.5}, {"size_frac": 0.75})

    def __init__(self, *, size_frac: float = 0.5, prob: float = 1.0, fill: int = 128) -> None:
        for name, value in (("size_frac", size_frac), ("prob", prob)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if not 0 <= fill <= 255:
            raise ValueError(f"fill must lie in 0 to 255, got {fill}")
        self.size_frac, self.prob, self.fill = size_frac, prob, fill

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> ErasePlan:
        """Draw a square's centre for each row."""
        rows, edges = len(labels), []
        for length in size:
            span = round(self.size_frac * length)
            start = rng.integers(length, size=rows) - span // 2
            edges += [start.clip(0), (start + span).clip(max=length)]
        erased = rng.random(rows) < self.prob
        return ErasePlan(np.where(erased[:, None], np.stack(edges, 1), 0), self.fill, np.zeros(rows, dtype=np.int64))

    apply_one = staticmethod(erase_one)
    apply = staticmethod(erase)

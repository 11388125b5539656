import numpy as np
from jaxtyping import UInt8

from divaug.config.registry import PIXEL
from divaug.pixel._operations import LEVELS, augment_by_level
from divaug.pixel._seeded import Seeded, Seeds


@PIXEL.register("levels")
class Levels(Seeded):
    """Apply ``level`` operations drawn from 22, each at magnitude level / 30.

    Args:
        level: 0 (nothing) to 30.

    Reference:
        Ahn et al., CUDA: Curriculum of Data Augmentation for Long-tailed Recognition, ICLR 2023, arXiv:2302.05499.

    Differs from the paper: the ranges of the magnitudes are those of RandAugment; usually after ``default+``.
    """

    strengths = ({"level": 2}, {"level": 5}, {"level": 10})

    def __init__(self, *, level: int = 5) -> None:
        if not 0 <= level <= LEVELS:
            raise ValueError(f"level must lie in 0 to {LEVELS}, got {level}")
        self.level = level

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: Seeds, i: int) -> UInt8[np.ndarray, "H W ch"]:
        """Apply the operations drawn with row ``i``'s seed."""
        return augment_by_level(image, self.level, int(plan[i]))

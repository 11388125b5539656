import numpy as np
from jaxtyping import UInt8

from divaug.config.registry import PIXEL
from divaug.pixel._seeded import Seeded, Seeds


@PIXEL.register("gaussian_noise")
class GaussianNoise(Seeded):
    """Add independent normal noise to every value, and clip.

    Args:
        std: Standard deviation on the 0-1 scale, >= 0.

    Reference:
        Bishop, Training with Noise is Equivalent to Tikhonov Regularization, Neural Computation 7(1), 1995.

    Differs from the paper: values are rounded to eight bits and clipped.
    """

    strengths = ({"std": 0.02}, {"std": 0.05}, {"std": 0.2})

    def __init__(self, *, std: float = 0.05) -> None:
        if std < 0:
            raise ValueError(f"std must be >= 0, got {std}")
        self.std = std

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: Seeds, i: int) -> UInt8[np.ndarray, "H W ch"]:
        """Add row ``i``'s noise."""
        noise = np.random.default_rng(plan[i]).normal(0, 255 * self.std, image.shape)
        return (image + noise).round().clip(0, 255).astype(np.uint8)

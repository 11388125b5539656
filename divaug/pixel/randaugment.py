from divaug.config.registry import PIXEL
from divaug.pixel._seeded import TorchvisionPixel


@PIXEL.register("randaugment", tune={"num_ops": (1, 3), "magnitude": (4, 15)})
class RandAugment(TorchvisionPixel):
    """Apply a few operations drawn at random, all at one magnitude (torchvision's version).

    Args:
        num_ops: Operations per image, >= 1.
        magnitude: Strength, 0 to 30.

    Reference:
        Cubuk et al., RandAugment, NeurIPS 2020, arXiv:1909.13719.

    Differs from the paper: as in torchvision; usually after ``default+``.
    """

    strengths = ({"magnitude": 3}, {"magnitude": 9}, {"num_ops": 3, "magnitude": 18})

    def __init__(self, *, num_ops: int = 2, magnitude: int = 9) -> None:
        from torchvision.transforms import v2

        if num_ops < 1:
            raise ValueError(f"num_ops must be >= 1, got {num_ops}")
        if not 0 <= magnitude <= 30:
            raise ValueError(f"magnitude must lie in 0 to 30, got {magnitude}")
        super().__init__(v2.RandAugment(num_ops=num_ops, magnitude=magnitude))

from divaug.config.registry import PIXEL
from divaug.pixel._seeded import TorchvisionPixel


@PIXEL.register("augmix")
class AugMix(TorchvisionPixel):
    """Blend an image with the results of several chains of operations on it (torchvision's version).

    Args:
        severity: Strength of the operations, 1 to 10.
        mixture_width: Number of chains, >= 1.
        alpha: Parameter of the Dirichlet and Beta draws of the weights, > 0.

    Reference:
        Hendrycks et al., AugMix, ICLR 2020, arXiv:1912.02781.

    Differs from the paper: the consistency loss between views is left out.
    """

    strengths = ({"severity": 1}, {"severity": 3}, {"severity": 9})

    def __init__(self, *, severity: int = 3, mixture_width: int = 3, alpha: float = 1.0) -> None:
        from torchvision.transforms import v2

        if not 1 <= severity <= 10:
            raise ValueError(f"severity must lie in 1 to 10, got {severity}")
        if mixture_width < 1:
            raise ValueError(f"mixture_width must be >= 1, got {mixture_width}")
        if alpha <= 0:
            raise ValueError(f"alpha must be > 0, got {alpha}")
        super().__init__(v2.AugMix(severity=severity, mixture_width=mixture_width, alpha=alpha))

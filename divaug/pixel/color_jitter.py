from divaug.config.registry import PIXEL
from divaug.pixel._seeded import TorchvisionPixel


@PIXEL.register("color_jitter")
class ColorJitter(TorchvisionPixel):
    """Change brightness, contrast, saturation and hue by random amounts, in random order (torchvision's version).

    Args:
        brightness: Largest relative change, >= 0.
        contrast: Largest relative change, >= 0.
        saturation: Largest relative change, >= 0; nothing on grey images.
        hue: Largest rotation of the colour circle, in [0, 0.5]; nothing on grey images.

    Reference:
        Krizhevsky et al., ImageNet Classification with Deep CNNs, NeurIPS 2012 (which jitters principal components).

    Differs from the paper: jitters named properties instead of principal components.
    """

    strengths = ({"brightness": 0.1, "contrast": 0.1}, {}, {"brightness": 0.9, "contrast": 0.9, "hue": 0.4})

    def __init__(
        self, *, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.1
    ) -> None:
        from torchvision.transforms import v2

        for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            if value < 0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        if not 0 <= hue <= 0.5:
            raise ValueError(f"hue must lie in [0, 0.5], got {hue}")
        super().__init__(v2.ColorJitter(brightness, contrast, saturation, hue))

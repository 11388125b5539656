from divaug.config.registry import PIXEL
from divaug.pixel._seeded import TorchvisionPixel


@PIXEL.register("trivialaugment")
class TrivialAugment(TorchvisionPixel):
    """Apply one operation drawn at random, at a magnitude drawn at random (torchvision's wide set).

    Reference:
        Müller and Hutter, TrivialAugment, ICCV 2021, arXiv:2103.10158.

    Differs from the paper: as in torchvision; usually after ``default+``.
    """

    def __init__(self) -> None:
        from torchvision.transforms import v2

        super().__init__(v2.TrivialAugmentWide())

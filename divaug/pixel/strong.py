from divaug.base.contracts import Pixel, built
from divaug.config.registry import PIXEL


@PIXEL.register("strong")
def strong(*, augmentation: Pixel = "default+randaugment+cutout") -> Pixel:  # pyright: ignore[reportArgumentType]
    """Augment strongly: a name for policies by class; by default RandAugment and Cutout after the data set's default.

    Args:
        augmentation: Any pixel component.

    Reference:
        Sohn et al., FixMatch, NeurIPS 2020, arXiv:2001.07685, section 2.3.

    Differs from the paper: RandAugment has torchvision's operations and one magnitude instead of a random one.
    """
    return built(augmentation, "augmentation")

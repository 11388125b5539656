from divaug.base.contracts import Pixel, built
from divaug.config.registry import PIXEL


@PIXEL.register("weak")
def weak(*, augmentation: Pixel = "default") -> Pixel:  # pyright: ignore[reportArgumentType] - the registry builds it
    """Augment weakly: a name for policies by class; by default what the data set declares.

    Args:
        augmentation: Any pixel component.

    Reference:
        Sohn et al., FixMatch, NeurIPS 2020, arXiv:2001.07685, section 2.3 (weak is flip and shift).

    Differs from the paper: the data set declares what is harmless (digits are not mirrored).
    """
    return built(augmentation, "augmentation")

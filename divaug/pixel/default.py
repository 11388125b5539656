from divaug.base.contracts import Pixel
from divaug.config.registry import PIXEL


@PIXEL.register("default")
def default(default_pixel: Pixel) -> Pixel:
    """Do what the data set declares: crop_flip for CIFAR and your own images, shift for digits and MNIST.

    Args:
        default_pixel: The data set's own augmentation, built.

    Differs from the paper: there is none.
    """
    return default_pixel

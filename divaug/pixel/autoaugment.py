from divaug.config.registry import PIXEL
from divaug.pixel._seeded import TorchvisionPixel


@PIXEL.register("autoaugment")
class AutoAugment(TorchvisionPixel):
    """Apply one of the sub-policies found by a search (torchvision's version).

    Args:
        policy: Data set of the search: cifar10, imagenet or svhn.

    Reference:
        Cubuk et al., AutoAugment, CVPR 2019, arXiv:1805.09501.

    Differs from the paper: as in torchvision; usually after ``default+``.
    """

    def __init__(self, *, policy: str = "cifar10") -> None:
        from torchvision.transforms import v2

        known = [member.value for member in v2.AutoAugmentPolicy]
        if policy not in known:
            raise ValueError(f"policy must be one of {', '.join(known)}, got {policy!r}")
        super().__init__(v2.AutoAugment(v2.AutoAugmentPolicy(policy)))

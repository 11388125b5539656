from collections.abc import Mapping
from typing import Any

from PIL import Image

from divaug.base.errors import suggestion
from divaug.config.registry import PIXEL
from divaug.pixel._seeded import TorchvisionPixel


@PIXEL.register("torchvision")
class Torchvision(TorchvisionPixel):
    """Apply a transform of torchvision v2 by its name; ``torchvision:TrivialAugmentWide`` is short for it.

    Args:
        transform: Class in ``torchvision.transforms.v2`` that takes and returns a PIL image of 8 bits.
        options: Its keyword arguments.

    Reference:
        https://pytorch.org/vision/stable/transforms.html

    Differs from the paper: every row has its own seed; divaug does the normalisation.
    """

    def __init__(self, *, transform: str = "TrivialAugmentWide", options: dict[str, Any] = {}) -> None:  # noqa: B006
        from torchvision.transforms import v2

        known = [name for name, value in vars(v2).items() if isinstance(value, type)]
        if transform not in known:
            raise ValueError(f"torchvision has no transform {transform!r}; {suggestion(transform, known)}")
        made: Mapping[str, Any] = vars(v2)
        try:
            self.built = made[transform](**options)
        except TypeError as error:
            raise ValueError(f"{transform} cannot be built with {options}: {error}") from error
        self.named = transform
        super().__init__(self._transformed)

    def _transformed(self, image: Image.Image) -> Image.Image:
        done = self.built(image)
        if not isinstance(done, Image.Image):
            raise ValueError(f"{self.named} returned {type(done).__name__}, but only PIL images can be used here")
        return done

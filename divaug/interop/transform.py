"""Any pixel component as a transform of torchvision v2."""

import inspect
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from divaug.base.contracts import Pixel, WholePixel, complete


class Transform(nn.Module):
    """Augment single images with a pixel component, wherever torchvision's transforms go (``v2.Compose`` too).

    Takes a PIL image or uint8 ``(ch, H, W)``, ch 1 or 3, and gives the same back; ``transform(image, label)`` also
    hands the label on; components that treat classes differently need it. Draws from torch's global generator, as
    torchvision's do, so the seeds of ``DataLoader`` workers hold.

    Args:
        pixel: Any component of the family ``pixel``.

    Raises:
        TypeError: Neither a PIL image nor a uint8 tensor.
        ValueError: No label for a component that was built from the labels or counts of classes.

    Example:
        >>> import torch
        >>> from divaug.interop import Transform
        >>> from divaug.pixel import Cutout
        >>> Transform(Cutout(size_frac=0.5))(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3, 8, 8])
    """

    def __init__(self, pixel: Pixel) -> None:
        super().__init__()
        whole: Any = complete(pixel)
        self.pixel: WholePixel = whole
        self._needs_label = _treats_classes(pixel)

    def forward(self, image: Any, label: Any = None) -> Any:
        """Augment one image; with a label, return both."""
        if label is None and self._needs_label:
            raise ValueError(
                f"{type(self.pixel).__name__} treats classes differently: call transform(image, label), as "
                "transforms= of torchvision's data sets does (transform= gets the image alone)"
            )
        array = _to_array(image)
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        labels = torch.tensor([0 if label is None else int(label)])
        plan = self.pixel.sample(labels, (array.shape[0], array.shape[1]), rng)
        seen = np.ascontiguousarray(self.pixel.apply_one(array, plan, 0))
        if isinstance(image, Tensor):
            done: Any = torch.from_numpy(seen).permute(2, 0, 1)
        else:
            done = Image.fromarray(seen[:, :, 0] if seen.shape[2] == 1 else seen)
        return done if label is None else (done, label)


def _treats_classes(pixel: Any) -> bool:
    """Return whether a component, or a step of a chain, was built from the labels or counts of classes."""
    facts = {"labels", "class_counts", "group_counts"} & set(inspect.signature(type(pixel)).parameters)
    return bool(facts) or any(_treats_classes(step) for step in getattr(pixel, "steps", ()))


def _to_array(image: Any) -> np.ndarray:
    """Return uint8 ``(H, W, ch)``."""
    if isinstance(image, Image.Image):
        array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        return array[:, :, None] if array.ndim == 2 else array
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.dim() == 3 and image.shape[0] in (1, 3):
        return image.permute(1, 2, 0).contiguous().numpy()
    kind = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
    raise TypeError(f"expected a PIL image or uint8 (ch, H, W) with ch 1 or 3, got {kind}; transform before ToDtype")

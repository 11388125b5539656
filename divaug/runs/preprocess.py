"""From an image, in whatever form, to the tensor that a trained network expects."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from divaug.base.errors import DataError
from divaug.data.image_files import Geometry, decode, squared, upright_rgb


@dataclass(frozen=True)
class Preprocess:
    """Turns an image into the network's input: resized, with channels as in training, normalised.

    Attributes:
        shape: (H, W, ch) of the training images.
        mean: Channel means on the 0-1 scale.
        std: Channel standard deviations on the 0-1 scale.
        resize: How images that are not square are resized: stretch, crop or pad.
        bits: Bits in use of 16-bit grey images.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "stretch"
    bits: int = 16

    def __call__(self, image: str | Path | np.ndarray | Image.Image) -> Float[Tensor, "ch H W"]:
        """Return one image normalised.

        Args:
            image: A file, a PIL image, or uint8 ``(H, W, ch)``.

        Raises:
            DataError: The file cannot be read, or the array is not an image.
        """
        pixels = torch.from_numpy(self._pixels(image).copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def _pixels(self, image: str | Path | np.ndarray | Image.Image) -> np.ndarray:
        height, width, channels = self.shape
        if isinstance(image, str | Path):
            if height != width:
                raise DataError(f"files are made square, but this network was trained on {height}x{width}; give arrays")
            array = decode(Path(image), Geometry(height, self.resize, self.bits))
        else:
            try:
                array = np.asarray(upright_rgb(image, self.bits) if isinstance(image, Image.Image) else image)
            except ValueError as error:
                raise DataError(f"cannot use the image: {error}") from error
        if array.ndim == 2:
            array = array[:, :, None]
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3):
            raise DataError(f"expected uint8 (H, W, 1 or 3), got {array.dtype} {array.shape}")
        if channels == 1 and array.shape[2] == 3:  # luminance as in ITU-R 601 and Pillow's mode L
            array = (array @ np.array([0.299, 0.587, 0.114]))[..., None].round().astype(np.uint8)
        elif channels == 3 and array.shape[2] == 1:
            array = np.repeat(array, 3, axis=2)
        if array.shape[:2] != (height, width):
            picture = Image.fromarray(array[:, :, 0] if channels == 1 else array)
            if height == width:
                array = np.asarray(squared(picture, Geometry(height, self.resize)))
            else:
                array = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        return array.reshape(height, width, channels)

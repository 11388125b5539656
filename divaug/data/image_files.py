"""Image files: decoding any common format to uint8 RGB of one size."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from divaug.base.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def decode(path: Path, size: int) -> np.ndarray:
    """Read an image as uint8 ``(size, size, 3)``.

    EXIF orientation is applied; grey becomes three equal channels; transparent parts turn white; 16-bit grey keeps its
    upper eight bits; the sides are resized separately (bilinear, antialiased), so the aspect ratio is not kept.

    Raises:
        DataError: The file is missing, damaged or in an unknown format.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            image = upright_rgb(file)
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read image {path}: {error}") from error


def upright_rgb(opened: "Image") -> "Image":
    """Return a PIL image in RGB, by the rules of ``decode``, in its own size.

    Raises:
        ValueError: Grey values of 32 bits, which have no agreed range.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16") or (image.mode == "I" and opened.format == "PNG"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("grey values of 32 bits have no agreed range; store the image with 8 or 16 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class ImageFiles:
    """Images that are decoded on access.

    Args:
        files: One path per image.
        size: Side in pixels.
    """

    def __init__(self, files: list[Path], size: int) -> None:
        self.files = files
        self.size = size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape that decoding everything would produce."""
        return len(self.files), self.size, self.size, 3

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Decode the images at an index array to uint8 ``(n, size, size, 3)``."""
        return np.stack([decode(self.files[i], self.size) for i in np.asarray(indices)])

    def take(self, keep: np.ndarray) -> "ImageFiles":
        """Return only the files at a boolean mask or an index array."""
        keep = np.flatnonzero(keep) if keep.dtype == bool else keep
        return ImageFiles([self.files[i] for i in keep], self.size)

    def load(self) -> np.ndarray:
        """Decode everything, in threads: decoding and resizing release the interpreter lock."""
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(lambda path: decode(path, self.size), self.files)))


def list_images(folder: Path) -> list[Path]:
    """Return the image files anywhere below a folder, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )

"""Image files: decoding any common format to uint8 RGB of one size."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from divaug.base.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def decode(path: Path, size: int) -> np.ndarray:
    """Read an image as uint8 ``(size, size, 3)``.

    EXIF orientation is applied; grey becomes three equal channels; transparent parts turn white; 16-bit grey keeps its
    upper eight bits; the sides are resized separately (bilinear, antialiased), so the aspect ratio is not kept.

    Raises:
        DataError: The file is missing, damaged or in an unknown format.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I;16") or (picture.mode == "I" and file.format == "PNG"):
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            elif picture.mode in ("I", "F"):
                raise ValueError("grey values of 32 bits have no agreed range; store the image with 8 or 16 bits")
            if "A" in picture.getbands() or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = picture.convert("RGB")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(picture)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read image {path}: {error}") from error


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

"""Image files: decoding any common format to uint8 RGB of one size, and what a file says of itself."""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from divaug.base.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # Pillow hands others to programs, as EPS
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Geometry:
    """How a file becomes an array.

    Attributes:
        size: Side of the square, in pixels.
        resize: ``stretch`` resizes the sides separately, so the aspect ratio is not kept; ``crop`` keeps it and cuts
            the longer side, centred; ``pad`` keeps it and fills the shorter side with black.
        bits: Bits in use of 16-bit grey images, 8 to 16: microscopes and X-ray detectors often use 12.
    """

    size: int
    resize: str = "stretch"
    bits: int = 16


def decode(path: Path, geometry: Geometry) -> np.ndarray:
    """Read an image as uint8 ``(size, size, 3)``.

    EXIF orientation is applied; grey becomes three equal channels; transparent parts turn white; 16-bit grey keeps the
    upper eight of its ``bits``; resizing is bilinear and antialiased.

    Raises:
        DataError: The file is missing, damaged or in an unknown format; the message names it.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as file:
            return np.asarray(squared(upright_rgb(file, geometry.bits), geometry))
    except MemoryError:
        raise
    except Exception as error:  # readers raise whatever a damaged file leads them to: struct.error, KeyError, ...
        raise DataError(f"cannot read image {path}: {_reason(error)}") from error


def upright_rgb(opened: "Image", bits: int = 16) -> "Image":
    """Return a PIL image in RGB, by the rules of ``decode``, in its own size.

    Raises:
        ValueError: Grey values of 32 bits, which have no agreed range.
    """
    from PIL import Image

    image = _upright(opened)
    if is_deep_grey(image):
        shifted = np.asarray(image).astype(np.int64) >> (bits - 8)
        image = Image.fromarray(np.clip(shifted, 0, 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("grey values of 32 bits, or with a sign, have no agreed range; store them as 8 or 16 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upright(opened: "Image") -> "Image":
    """Apply the EXIF orientation; an image whose EXIF no parser likes is used as it is stored."""
    from PIL import Image

    turns = Image.Transpose
    how = {
        2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE,
        6: turns.ROTATE_270, 7: turns.TRANSVERSE, 8: turns.ROTATE_90,
    }  # fmt: skip
    try:
        turn = how.get(int(opened.getexif().get(_ORIENTATION, 1)))
    except Exception:  # broken EXIF: struct.error, SyntaxError, ...
        turn = None
    opened.load()
    return opened if turn is None else opened.transpose(turn)


def is_deep_grey(image: "Image") -> bool:
    """Return whether an image holds grey values of 16 bits."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def squared(image: "Image", geometry: Geometry) -> "Image":
    """Resize an RGB image to the square of ``geometry``."""
    from PIL import Image, ImageOps

    side = (geometry.size, geometry.size)
    if image.size == side:
        return image
    if geometry.resize == "crop":
        return ImageOps.fit(image, side, Image.Resampling.BILINEAR)
    if geometry.resize == "pad":
        return ImageOps.pad(image, side, Image.Resampling.BILINEAR)
    return image.resize(side, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class Scan:
    """What one file holds; ``error`` is the only field of a file that cannot be read.

    Attributes:
        content: SHA-256 of the file's bytes.
        error: Why it cannot be read, or None.
        format: Pillow's name of the format.
        width, height: In pixels, as stored.
        deep: Whether its values have 16 bits; ``peak`` is then the value that 99 % of them do not exceed, else 0.
        grey: Whether they are grey; colours of 16 bits reach us with 8.
        flat: Whether all pixels have one colour.
        frames: Images in the file; only the first is used.
        look: A 64-bit perceptual hash (pHash): images that look alike differ in few bits.
        thumbnail: uint8 ``(16, 16, 3)``.
        pixels: uint8 ``(size, size, 3)``, as ``decode`` returns it.
    """

    content: bytes
    error: str | None = None
    format: str = ""
    width: int = 0
    height: int = 0
    deep: bool = False
    grey: bool = False
    peak: int = 0
    flat: bool = False
    frames: int = 1
    look: int = 0
    thumbnail: np.ndarray | None = field(default=None, repr=False)
    pixels: np.ndarray | None = field(default=None, repr=False)


def scan(path: Path, geometry: Geometry, *, keep: bool = True) -> Scan:
    """Read a file once: its digest, its form, its pixels and its look.

    Args:
        path: The file.
        geometry: How it becomes an array.
        keep: Whether to keep the pixels.
    """
    import imagehash
    from PIL import Image

    content = b"\0" * 32
    try:
        content = hashlib.sha256(path.read_bytes()).digest()
        with Image.open(path, formats=FORMATS) as file:
            form, width, height = file.format or "", *file.size
            if not keep:
                file.draft("RGB", (geometry.size, geometry.size))  # JPEG: decoded at a fraction of its size
            deep = any(";16" in str(tile.args) for tile in _tiles(file))  # empty once it is loaded
            upright = _upright(file)
            grey = is_deep_grey(upright)
            peak = int(np.quantile(np.asarray(upright), 0.99)) if grey else 0
            image = upright_rgb(file, geometry.bits)
            pixels = np.asarray(squared(image, geometry))
            square = Image.fromarray(pixels)
            look = imagehash.phash(square).hash
            return Scan(
                content=content, format=form, width=width, height=height, deep=deep or grey, grey=grey,
                peak=peak if grey else int(np.quantile(pixels, 0.99)) * 257 if deep else 0,
                flat=bool((pixels == pixels[0, 0]).all()), frames=int(getattr(file, "n_frames", 1)),
                look=int.from_bytes(np.packbits(look).tobytes(), "big"),
                thumbnail=np.asarray(square.resize((16, 16), Image.Resampling.BOX)), pixels=pixels if keep else None,
            )  # fmt: skip
    except MemoryError:
        raise
    except Exception as error:
        return Scan(content, _reason(error))


def _tiles(file: "Image") -> list:
    return getattr(file, "tile", [])


def _reason(error: Exception) -> str:
    """Return an error in words: Pillow repeats the path, or says nothing."""
    text = re.sub(r" ?'[^']*'$", "", str(error)) if "cannot identify image file" in str(error) else str(error)
    return text or type(error).__name__


class ImageFiles:
    """Images that are decoded on access.

    Args:
        files: One path per image.
        geometry: How each becomes an array.
    """

    def __init__(self, files: list[Path], geometry: Geometry) -> None:
        self.files = files
        self.geometry = geometry

    @classmethod
    def joined(cls, several: Sequence["ImageFiles"]) -> "ImageFiles":
        """Return files one after another; the geometry is the first one's."""
        return cls([file for one in several for file in one.files], several[0].geometry)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape that decoding everything would produce."""
        return len(self.files), self.geometry.size, self.geometry.size, 3

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Decode the images at an index array to uint8 ``(n, size, size, 3)``."""
        return np.stack([decode(self.files[i], self.geometry) for i in np.asarray(indices)])

    def take(self, keep: np.ndarray) -> "ImageFiles":
        """Return only the files at a boolean mask or an index array."""
        keep = np.flatnonzero(keep) if keep.dtype == bool else keep
        return ImageFiles([self.files[i] for i in keep], self.geometry)

    def load(self) -> np.ndarray:
        """Decode everything, in threads: decoding and resizing release the interpreter lock."""
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(lambda path: decode(path, self.geometry), self.files)))


def scan_files(files: Sequence[Path], geometry: Geometry, *, keep: bool) -> list[Scan]:
    """Scan files in threads; see ``scan``."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: scan(path, geometry, keep=keep), files))

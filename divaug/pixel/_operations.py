"""The 22 operations, done by Pillow, that policies by class draw from; their strength is a level."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from divaug.pixel._seeded import from_pil, to_pil

LEVELS = 30  # magnitudes are fractions of this
Picture = Image.Image
Generator = np.random.Generator


def _signed(value: float, rng: Generator) -> float:
    return value if rng.random() < 0.5 else -value


def _affine(picture: Picture, matrix: tuple[float, ...]) -> Picture:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def _shear_x(picture: Picture, m: float, rng: Generator) -> Picture:
    return _affine(picture, (1.0, _signed(0.3 * m, rng), 0.0, 0.0, 1.0, 0.0))


def _shear_y(picture: Picture, m: float, rng: Generator) -> Picture:
    return _affine(picture, (1.0, 0.0, 0.0, _signed(0.3 * m, rng), 1.0, 0.0))


def _translate_x(picture: Picture, m: float, rng: Generator) -> Picture:
    return _affine(picture, (1.0, 0.0, _signed(0.45 * m, rng) * picture.width, 0.0, 1.0, 0.0))


def _translate_y(picture: Picture, m: float, rng: Generator) -> Picture:
    return _affine(picture, (1.0, 0.0, 0.0, 0.0, 1.0, _signed(0.45 * m, rng) * picture.height))


def _rotate(picture: Picture, m: float, rng: Generator) -> Picture:
    return picture.rotate(_signed(30 * m, rng), Image.Resampling.BILINEAR)


def _resize_crop(picture: Picture, m: float, rng: Generator) -> Picture:
    width, height = picture.size
    w, h = width / (1 + 0.3 * m), height / (1 + 0.3 * m)
    left, top = rng.random() * (width - w), rng.random() * (height - h)
    return picture.resize((width, height), Image.Resampling.BILINEAR, (left, top, left + w, top + h))


def _posterize(picture: Picture, m: float, rng: Generator) -> Picture:
    return ImageOps.posterize(picture, 8 - round(4 * m))


def _solarize(picture: Picture, m: float, rng: Generator) -> Picture:
    return ImageOps.solarize(picture, int(256 * (1 - m)))


def _solarize_add(picture: Picture, m: float, rng: Generator) -> Picture:
    return picture.point([min(255, v + int(110 * m)) if v < 128 else v for v in range(256)] * len(picture.getbands()))


def _blur(picture: Picture, m: float, rng: Generator) -> Picture:
    return picture.filter(ImageFilter.GaussianBlur(2 * m))


def _enhance(kind: type) -> Callable[[Picture, float, Generator], Picture]:
    return lambda picture, m, rng: kind(picture).enhance(1 + _signed(0.9 * m, rng))


def _blended(filtered: ImageFilter.Filter) -> Callable[[Picture, float, Generator], Picture]:
    return lambda picture, m, rng: Image.blend(picture, picture.filter(filtered), m)


def _fixed(do: Callable[[Picture], Picture]) -> Callable[[Picture, float, Generator], Picture]:
    return lambda picture, m, rng: do(picture)


OPERATIONS: dict[str, Callable[[Picture, float, Generator], Picture]] = {
    "auto_contrast": _fixed(ImageOps.autocontrast),
    "blur": _blur,
    "brightness": _enhance(ImageEnhance.Brightness),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "detail": _blended(ImageFilter.DETAIL()),
    "edge_enhance": _blended(ImageFilter.EDGE_ENHANCE()),
    "equalize": _fixed(ImageOps.equalize),
    "flip": _fixed(ImageOps.flip),
    "invert": _fixed(ImageOps.invert),
    "mirror": _fixed(lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "posterize": _posterize,
    "resize_crop": _resize_crop,
    "rotate": _rotate,
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "smooth": _blended(ImageFilter.SMOOTH()),
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}


def augment_by_level(image: UInt8[np.ndarray, "H W ch"], level: int, seed: int) -> UInt8[np.ndarray, "H W ch"]:
    """Apply ``level`` operations, drawn uniformly with replacement, each at magnitude level / 30.

    Args:
        image: Image.
        level: 0 (nothing) to 30.
        seed: Seed of the draws.
    """
    if level == 0:
        return image
    rng = np.random.default_rng(seed)
    names = list(OPERATIONS)
    picture = to_pil(image)
    for number in rng.integers(len(names), size=level):
        picture = OPERATIONS[names[number]](picture, level / LEVELS, rng)
    return from_pil(picture)

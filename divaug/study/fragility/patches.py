"""A small patch planted in a share of one class's training images: a shortcut that is known to exist."""

from dataclasses import replace

import numpy as np

from divaug.base.errors import ConfigError
from divaug.base.rng import stream
from divaug.data.load import Data


def patch_of(height: int, width: int) -> tuple[slice, slice]:
    """Return where the patch lies: a square with an eighth of the side, at least 2, as far from the lower right."""
    side = max(2, min(height, width) // 8)
    away = max(1, side)
    return slice(height - away - side, height - away), slice(width - away - side, width - away)


def plant(images: np.ndarray) -> np.ndarray:
    """Return a copy of images, uint8 ``(n, H, W, ch)``, with the patch: a black and white chequerboard."""
    rows, columns = patch_of(*images.shape[1:3])
    board = np.indices((rows.stop - rows.start, columns.stop - columns.start)).sum(0) % 2 * 255
    planted = images.copy()
    planted[:, rows, columns] = board[..., None].astype(np.uint8)
    return planted


def target_class(data: Data, which: str) -> int:
    """Return the class that gets the patch: "frequent" is the largest, "rare" the largest of the smallest third.

    The very smallest class may have too few images for a share of them to mean anything.
    """
    order = np.argsort(-data.counts, kind="stable")
    return int(order[0] if which == "frequent" else order[len(order) - max(1, len(order) // 3)])


def with_patch(data: Data, which: str, share: float, seed: int) -> Data:
    """Return the data with the patch in a share of one class's training images, rounded to whole images.

    A larger share includes the images of a smaller one.

    Raises:
        ConfigError: The images are not held in memory.
    """
    if not isinstance(data.train.images, np.ndarray):
        raise ConfigError("patches are planted in images held in memory; this data set streams its files")
    c = target_class(data, which)
    members = np.flatnonzero(data.train.labels == c)
    chosen = stream(seed, "planted").permutation(members)[: round(share * len(members))]
    images = data.train.images.copy()
    images[chosen] = plant(images[chosen])
    name = data.dataset.class_names[c]
    note = f"a patch is planted in {len(chosen)} of the {len(members)} training images of {name!r}"
    return replace(data, train=replace(data.train, images=images), notes=(*data.notes, note))

"""Images from any other source (a generator, the web) that join the training cut, labelled by source."""

from collections import Counter
from pathlib import Path

import numpy as np

from divaug.base.errors import DataError
from divaug.data.datasets._rows import rows_of_table
from divaug.data.halves import image_digests
from divaug.data.image_files import Geometry, ImageFiles
from divaug.data.images import Part

UNNAMED = "extra"  # the source of rows that name none


def files_of(file: str) -> list[Path]:
    """Return the images that a CSV lists, in its order; see ``with_extra``."""
    return [row.path for row in rows_of_table(Path(file)).rows]


def with_extra(
    train: Part,
    held_out: dict[str, Part],
    file: str,
    class_names: list[str],
    *,
    resize: str = "stretch",
    bits: int = 16,
) -> tuple[Part, dict[str, list[int]]]:
    """Append the images of a CSV to a training part.

    Args:
        train: The training cut.
        held_out: The test and validation parts by name; none of their images may be among the extra ones.
        file: CSV with path, label and optionally source; paths relative to it.
        class_names: The data set's classes, which the labels must name.
        resize: How files become square, as those of the cut did: see ``Geometry``.
        bits: Bits in use of 16-bit grey images, as in the cut.

    Returns:
        The longer part, and the images of each class by source.

    Raises:
        DataError: The CSV or an image is unreadable, a label names no class, a row is marked for testing, or an image
            is among those held out.
    """
    path = Path(file)
    rows = rows_of_table(path).rows
    index = {name: c for c, name in enumerate(class_names)}
    if unknown := sorted({row.label for row in rows} - set(index)):
        raise DataError(f"{path}: labels {unknown[:5]} are not classes of the data set, which has {class_names}")
    if other := sorted({row.split for row in rows if row.split in ("test", "val")}):
        raise DataError(f"{path}: extra images are for training only, but some are marked split = {other[0]}")
    own = {str(row.group) for row in rows if row.group}
    for name, part in held_out.items():
        if shared := own & set(() if part.groups is None else map(str, part.groups)):
            raise DataError(f"{path}: the group {min(shared)} is in the {name} images too")
    _, height, width, channels = train.images.shape
    if height != width:
        raise DataError(f"extra images are made square, but these are {height}x{width}; give --image-size")
    geometry = Geometry(height, resize, bits)
    files = ImageFiles([row.path for row in rows], geometry)
    images = files.load()
    if channels == 1:  # luminance as in ITU-R 601 and Pillow's mode L
        images = (images @ np.array([0.299, 0.587, 0.114]))[..., None].round().astype(np.uint8)
    labels = np.array([index[row.label] for row in rows], dtype=np.int64)
    extra = Part(images, labels)
    for name, part in held_out.items():
        leaked = np.isin(image_digests(extra), image_digests(part))
        if leaked.any():
            raise DataError(
                f"{path}: {leaked.sum()} extra images are {name} images, {rows[int(leaked.argmax())].path} among them"
            )
    sources: dict[str, list[int]] = {}
    for source in sorted({row.source or UNNAMED for row in rows}):
        of_class = Counter(row.label for row in rows if (row.source or UNNAMED) == source)
        sources[source] = [of_class[name] for name in class_names]
    groups = None
    if train.groups is not None:
        groups = np.concatenate([train.groups, [f"picture {row.path}" for row in rows]])
    if isinstance(
        train.images, ImageFiles
    ):  # they stay files, so that the choice of loader is the same as without them
        together = ImageFiles([*train.images.files, *files.files], geometry)
    else:
        together = np.concatenate([train.images, images])
    return Part(together, np.concatenate([train.labels, labels]), groups), sources

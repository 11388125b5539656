"""From rows of a user's own images to a Dataset: classes, the test part, sizes and normalisation."""

from collections import Counter
from pathlib import Path

import numpy as np

from divaug.base.errors import DataError
from divaug.base.rng import stream
from divaug.data.datasets._rows import Row, rows_of_csv, rows_of_folder
from divaug.data.image_files import ImageFiles
from divaug.data.images import Dataset, Part, Request
from divaug.data.split import carve

RESIDENT_BYTES = 2 * 2**30  # decode everything once when it takes no more than this
_NORMALISATION_SAMPLE = 2000


def stated_test(request: Request) -> list[Row]:
    """Return the rows of ``--test``, a CSV or a folder; empty if none was given."""
    if request.test is None:
        return []
    path = Path(request.test)
    return rows_of_csv(path) if path.suffix.lower() == ".csv" else rows_of_folder(path)


def assemble(request: Request, rows: list[Row], test_rows: list[Row], in_test: np.ndarray) -> Dataset:
    """Build the data set.

    Args:
        request: Sizes and shares.
        rows: The user's images.
        test_rows: Separate test images, or none.
        in_test: Which of ``rows`` the user marked for testing. If there are no test images, a part is carved off.

    Raises:
        DataError: Fewer than two classes, a test class without training images, or a group on both sides.
    """
    if test_rows:
        if in_test.any():
            raise DataError("test images are named twice: by --test and by the column split; drop one")
        test_rows = [row for row in test_rows if row.split != "train"]
    if both := sorted({row.path.resolve() for row in rows} & {row.path.resolve() for row in test_rows}):
        raise DataError(f"{len(both)} images are in both the training and the test part, {both[0]} among them")
    names = sorted({row.label for row in rows})
    if len(names) < 2:
        raise DataError(f"at least two classes are needed, found {names}")
    if unknown := sorted({row.label for row in test_rows} - set(names)):
        raise DataError(f"test classes {unknown} have no training images")
    notes = []
    if any(row.source for row in rows):
        sources = Counter(row.source or "unnamed" for row in rows)
        notes.append("images by source: " + ", ".join(f"{name} {n}" for name, n in sorted(sources.items())))
    whole = _part(request, rows, names)
    if test_rows:
        train, test = whole, _part(request, test_rows, names)
    else:
        if not in_test.any():
            in_test = carve(whole.labels, request.test_frac, request.split_seed, whole.groups)
            by = "by whole groups" if whole.groups is not None else "stratified"
            notes.append(f"test part carved off: {in_test.sum()} of {len(rows)} images, {by}")
        train, test = whole.take(~in_test), whole.take(in_test)
    paths = [row.path.resolve() for row in rows]
    if len(set(paths)) < len(paths):
        twice = next(str(path) for path in paths if paths.count(path) > 1)
        raise DataError(f"image {twice} is named twice")
    if train.groups is not None and test.groups is not None:
        both = sorted({str(g) for g in train.groups} & {str(g) for g in test.groups})
        if both:
            raise DataError(f"groups {both[:5]} ({len(both)} in all) are in both the training and the test part")
    train_counts, test_counts = (np.bincount(p.labels, minlength=len(names)) for p in (train, test))
    if (train_counts == 0).any():
        absent = [names[c] for c in np.flatnonzero(train_counts == 0)]
        raise DataError(f"classes {absent} have no training image; give them some, or drop the class")
    if not len(test.labels):
        raise DataError("no image is left for testing; name a test part with --test")
    if (test_counts == 0).any():
        absent = [names[c] for c in np.flatnonzero(test_counts == 0)]
        notes.append(f"classes {absent} have no test image: their metrics are NaN")
    mean, std = _normalisation(train.images)
    return Dataset(train, test, names, mean, std, pixel="crop_flip", notes=tuple(notes))


def _part(request: Request, rows: list[Row], names: list[str]) -> Part:
    index = {name: c for c, name in enumerate(names)}
    labels = np.array([index[row.label] for row in rows], dtype=np.int64)
    pictures = ImageFiles([row.path for row in rows], request.image_size)
    images = pictures.load() if np.prod(pictures.shape) <= RESIDENT_BYTES else pictures
    # An image without a group is a group of its own.
    groups = np.array([row.group or f"picture {row.path}" for row in rows])
    return Part(images, labels, groups if any(row.group for row in rows) else None)


def _normalisation(images: np.ndarray | ImageFiles) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure channel means and deviations on the training images, or on a fixed sample of them."""
    if len(images) > _NORMALISATION_SAMPLE:
        images = images[np.sort(stream(0, "normalisation").permutation(len(images))[:_NORMALISATION_SAMPLE])]
    else:
        images = images[np.arange(len(images))]
    pixels = images.reshape(-1, images.shape[-1]) / 255.0
    return tuple(pixels.mean(0).tolist()), tuple(np.maximum(pixels.std(0), 1e-3).tolist())

"""Carve a held-out part off labelled images: stratified, in whole groups, sparing rare classes."""

import warnings

import numpy as np

from divaug.base.errors import DataError
from divaug.base.rng import stream


def carve(
    labels: np.ndarray, frac: float, seed: int, groups: np.ndarray | None = None, contents: np.ndarray | None = None
) -> np.ndarray:
    """Choose held-out images. Identical images are held out together.

    Without groups, round(frac * n) images of every class are held out, at least one; none of a class that would keep
    fewer than two. With groups (patients, slides, cameras) no group is on both sides. scikit-learn's
    ``StratifiedGroupKFold`` proposes folds; the one chosen leaves the fewest classes without a training image, then
    the fewest without a held-out image, then has class shares nearest ``frac``.

    Args:
        labels: Class of every image, ``(N,)``.
        frac: Share to hold out, in (0, 1).
        seed: Seed of the choice.
        groups: Group of every image, or None.
        contents: Digest of every image, or None if all differ.

    Returns:
        Boolean ``(N,)``, True where held out.
    """
    first = first_identical(contents, len(labels))
    if groups is not None:
        return _carve_groups(labels, frac, seed, merged(groups, first))
    held = np.zeros(len(labels), dtype=bool)
    for c in np.unique(labels):
        members = np.flatnonzero((labels == c) & (first == np.arange(len(labels))))
        size = max(1, round(frac * len(members)))
        if len(members) - size >= 2:
            held[stream(seed, f"carve/{c}").choice(members, size, replace=False)] = True
    return held[first]


def first_identical(contents: np.ndarray | None, size: int) -> np.ndarray:
    """Return for every image the first one that is identical to it."""
    if contents is None:
        return np.arange(size)
    numbers = contents.view("<u8").reshape(len(contents), -1)  # void cannot be sorted
    _, at, which = np.unique(numbers, axis=0, return_index=True, return_inverse=True)
    return at[which]


def merged(groups: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return groups, those that share an identical image as one.

    Args:
        groups: Group of every image, ``(N,)``.
        first: Of ``first_identical``.

    Returns:
        The groups themselves where no images are identical, else numbers, ``(N,)``.
    """
    shared = np.flatnonzero(first != np.arange(len(first)))
    if not len(shared):
        return groups
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, which = np.unique(groups, return_inverse=True)
    links = coo_array((np.ones(len(shared)), (which[shared], which[first[shared]])), shape=(len(names), len(names)))
    return connected_components(links, directed=False)[1][which]


ALWAYS = -1  # the fold of images that every fold trains on


def folds_of(
    labels: np.ndarray,
    folds: int | None,
    seed: int,
    groups: np.ndarray | None = None,
    contents: np.ndarray | None = None,
) -> np.ndarray:
    """Deal images into folds, stratified by class: no group and no identical image is on both sides of one.

    A class all of whose images lie in one fold could not be trained there: its groups get ``ALWAYS`` (-1), and are
    trained on in every fold and tested in none. A fold that has no other images is left out.

    Args:
        labels: Class of every image, ``(N,)``.
        folds: Number of folds, from 2; None leaves out one group each (groups that share an image are one).
        seed: Seed of the deal.
        groups: Group of every image, or None.
        contents: Digest of every image, or None if all differ.

    Returns:
        The fold of every image, ``(N,)``, from 0 without a gap, or -1.

    Raises:
        DataError: There are fewer groups than folds, or fewer than two folds would test an image.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    first = first_identical(contents, len(labels))
    units = first if groups is None else np.unique(merged(groups, first), return_inverse=True)[1]
    number = len(np.unique(units))
    folds = number if folds is None else folds
    if not 2 <= folds <= number:
        what = "images that differ" if groups is None else "groups"
        raise DataError(f"{folds} folds need at least as many {what}, and at least 2; there are {number}")
    fold = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes smaller than the number of folds: expected here
        if folds == number:
            fold[:] = np.unique(units, return_inverse=True)[1]
        else:
            dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, units)
            for k, (_, test) in enumerate(dealt):
                fold[test] = k
    for c in np.unique(labels):
        where = np.unique(fold[labels == c])
        if len(where) == 1 and where[0] != ALWAYS:
            fold[np.isin(units, units[labels == c])] = ALWAYS
    used = np.unique(fold[fold != ALWAYS])
    if len(used) < 2:
        raise DataError(
            "fewer than two folds have an image to test: each class lies in one group, or nearly so; give images of "
            "more groups, or fewer folds"
        )
    return np.where(fold == ALWAYS, ALWAYS, np.searchsorted(used, fold))


def hold_out(labels: np.ndarray, num_classes: int, each: int, seed: int) -> np.ndarray:
    """Choose the same number of images of every class, as a balanced validation part.

    Args:
        labels: Class of every image, ``(N,)``.
        num_classes: C.
        each: Images held out of each class, >= 1.
        seed: Seed of the choice.

    Returns:
        Boolean ``(N,)``, True where held out.

    Raises:
        DataError: A class would keep no image.
    """
    counts = np.bincount(labels, minlength=num_classes)
    if (counts <= each).any():
        raise DataError(
            f"holdout {each} leaves classes {np.flatnonzero(counts <= each).tolist()} no training image: the smallest "
            f"class has {counts.min()}; hold out at most {max(0, counts.min() - 1)}"
        )
    held = np.zeros(len(labels), dtype=bool)
    for c in range(num_classes):
        held[stream(seed, f"holdout/{c}").choice(np.flatnonzero(labels == c), each, replace=False)] = True
    return held


def _carve_groups(labels: np.ndarray, frac: float, seed: int, groups: np.ndarray) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(max(2, round(1 / frac)), len(np.unique(groups)))
    if folds < 2:
        return np.zeros(len(labels), dtype=bool)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    classes, counts = np.unique(labels, return_counts=True)
    best: tuple[tuple[int, int, float], np.ndarray] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes smaller than the number of folds: expected here
        for _, test in splitter.split(labels, labels, groups):
            held = np.zeros(len(labels), dtype=bool)
            held[test] = True
            taken = np.array([held[labels == c].sum() for c in classes])
            badness = (
                int((taken == counts).sum()),
                int((taken == 0).sum()),
                float(np.abs(taken / counts - frac).sum()),
            )
            if best is None or badness < best[0]:
                best = badness, held
    assert best is not None
    return best[1]

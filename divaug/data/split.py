"""Carve a held-out part off labelled images: stratified, in whole groups, sparing rare classes."""

import warnings

import numpy as np

from divaug.base.rng import stream


def carve(labels: np.ndarray, frac: float, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Choose held-out images.

    Without groups, round(frac * n) images of every class are held out, at least one; none of a class that would keep
    fewer than two. With groups (patients, slides, cameras) no group is on both sides. scikit-learn's
    ``StratifiedGroupKFold`` proposes folds; the one chosen leaves the fewest classes without a training image, then
    the fewest without a held-out image, then has class shares nearest ``frac``.

    Args:
        labels: Class of every image, ``(N,)``.
        frac: Share to hold out, in (0, 1).
        seed: Seed of the choice.
        groups: Group of every image, or None.

    Returns:
        Boolean ``(N,)``, True where held out.
    """
    if groups is not None:
        return _carve_groups(labels, frac, seed, groups)
    held = np.zeros(len(labels), dtype=bool)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        size = max(1, round(frac * len(members)))
        if len(members) - size >= 2:
            held[stream(seed, f"carve/{c}").choice(members, size, replace=False)] = True
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

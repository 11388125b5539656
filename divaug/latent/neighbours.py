"""Neighbourhoods in embedding space: archetypes of pictures, and whom the missed ones live among."""

import numpy as np
from jaxtyping import Float, Int

ARCHETYPES = ("safe", "border", "rare", "outlier")
_OF_COUNT = np.array([3, 2, 1, 1, 0, 0])  # same-class neighbours 0 to 5 -> index in ARCHETYPES
NEIGHBOURS = 5


def nearest(
    bank: Float[np.ndarray, "N D"], queries: Int[np.ndarray, "q"], k: int = NEIGHBOURS
) -> Int[np.ndarray, "q k"]:
    """Return the k nearest rows (Euclidean) of some rows of a bank, themselves left out by index.

    By index, not by position: among duplicates the nearest row need not be the row itself.
    """
    from sklearn.neighbors import NearestNeighbors

    if not 1 <= k < len(bank):
        raise ValueError(f"k must lie in 1 to N - 1 = {len(bank) - 1}, got {k}")
    found = (
        NearestNeighbors(n_neighbors=k + 1, algorithm="brute")
        .fit(bank)
        .kneighbors(bank[queries], return_distance=False)
    )
    others = found != queries[:, None]
    others[others.all(1), -1] = False  # hidden behind duplicates: the farthest goes instead
    return found[others].reshape(len(queries), k)


def archetypes(
    labels: Int[np.ndarray, "N"], queries: Int[np.ndarray, "q"], neighbours: Int[np.ndarray, "q k"]
) -> Int[np.ndarray, "q"]:
    """Return the archetype of pictures as an index of ``ARCHETYPES``, by same-class pictures among five neighbours.

    4 or 5 safe, 2 or 3 border, 1 rare, 0 outlier.

    Args:
        labels: Classes of the bank.
        queries: Pictures.
        neighbours: Their five ``nearest``.

    Reference:
        Napierala and Stefanowski, 2016; in FE space Dablain et al., arXiv:2212.07743.

    Differs from the paper: the picture itself is left out by index, not as the first neighbour.
    """
    if neighbours.shape[1] != NEIGHBOURS:
        raise ValueError(f"archetypes are defined on {NEIGHBOURS} neighbours, got {neighbours.shape[1]}")
    return _OF_COUNT[(labels[neighbours] == labels[queries][:, None]).sum(1)]


def adversary_shares(
    labels: Int[np.ndarray, "N"], neighbours: Int[np.ndarray, "q k"], c: int, num_classes: int
) -> Float[np.ndarray, "C"]:
    """Return which classes the neighbours of a class's missed pictures (FN) belong to, the class itself left out.

    Shares sum to 1; NaN where no picture is missed, or all their neighbours are of the class.

    Args:
        labels: Classes of the bank.
        neighbours: ``nearest`` of the class's FN.
        c: The class.
        num_classes: C.

    Reference:
        Dablain et al., arXiv:2212.07743 (which calls these pictures false positives).
    """
    found = np.bincount(labels[neighbours].ravel(), minlength=num_classes).astype(np.float64)
    found[c] = 0
    return found / found.sum() if found.sum() else np.full(num_classes, np.nan)

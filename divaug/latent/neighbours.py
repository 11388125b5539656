"""Neighbourhoods in embedding space: archetypes of images, and the classes that surround the missed ones."""

import numpy as np
from jaxtyping import Float, Int

ARCHETYPES = ("safe", "border", "rare", "outlier")
_OF_COUNT = np.array([3, 2, 1, 1, 0, 0])  # same-class neighbours 0 to 5 -> index in ARCHETYPES
NEIGHBOURS = 5


def nearest(
    bank: Float[np.ndarray, "N D"], queries: Int[np.ndarray, "q"], k: int = NEIGHBOURS
) -> Int[np.ndarray, "q k"]:
    """Return the k nearest other rows (Euclidean) to each of some rows of a bank.

    A row itself is left out by index, not by position: among duplicates the nearest row need not be the row itself.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import nearest
        >>> nearest(np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 3]), k=1).tolist()
        [[1], [2]]
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
    """Return each image's archetype, an index into ``ARCHETYPES``.

    It depends on how many of the image's five neighbours are of its class: 4 or 5 safe, 2 or 3 border, 1 rare,
    0 outlier.

    Args:
        labels: Classes of the images in the bank.
        queries: Images, as rows of the bank.
        neighbours: Their five ``nearest``.

    Reference:
        Napierala and Stefanowski, 2016; in FE space Dablain et al., arXiv:2212.07743.

    Differs from the paper: the image itself is left out by index, not as the first neighbour.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import archetypes
        >>> labels = np.array([0, 0, 0, 0, 0, 1, 1])
        >>> neighbours = np.array([[1, 2, 3, 4, 5], [6, 0, 1, 2, 3]])
        >>> archetypes(labels, np.array([0, 5]), neighbours).tolist()  # four of its class: safe; one: rare
        [0, 2]
    """
    if neighbours.shape[1] != NEIGHBOURS:
        raise ValueError(f"archetypes are defined on {NEIGHBOURS} neighbours, got {neighbours.shape[1]}")
    return _OF_COUNT[(labels[neighbours] == labels[queries][:, None]).sum(1)]


def adversary_shares(
    labels: Int[np.ndarray, "N"], neighbours: Int[np.ndarray, "q k"], c: int, num_classes: int
) -> Float[np.ndarray, "C"]:
    """Return the share of each other class among the neighbours of a class's missed images (FN).

    Shares sum to 1, and the class's own is 0; NaN where no image is missed, or all neighbours are of the class itself.

    Args:
        labels: Classes of the images in the bank.
        neighbours: The ``nearest`` of the class's FN.
        c: The class.
        num_classes: C.

    Reference:
        Dablain et al., arXiv:2212.07743 (which calls these images false positives).

    Example:
        >>> import numpy as np
        >>> from divaug.latent import adversary_shares
        >>> labels, neighbours = np.array([0, 0, 1, 1, 2]), np.array([[1, 2, 4], [0, 2, 3]])
        >>> adversary_shares(labels, neighbours, 0, 3).tolist()  # of classes 0 1 2 and 0 1 1
        [0.0, 0.75, 0.25]
    """
    found = np.bincount(labels[neighbours].ravel(), minlength=num_classes).astype(np.float64)
    found[c] = 0
    return found / found.sum() if found.sum() else np.full(num_classes, np.nan)


def at_most(rows: np.ndarray, most: int, seed: int, c: int) -> np.ndarray:
    """Return the rows, or ``most`` of them drawn at random where there are more, ascending."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng([seed, c]).choice(rows, most, replace=False))

"""Comparing sets and rankings of features. Indices mean the same only within one network, or after alignment."""

import numpy as np
from jaxtyping import Int


def jaccard(a: Int[np.ndarray, "k"], b: Int[np.ndarray, "l"]) -> float:
    """Return the size of the intersection over that of the union, 0 to 1; NaN for two empty sets.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import jaccard
        >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
        0.5
    """
    union = np.union1d(a, b)
    return len(np.intersect1d(a, b)) / len(union) if len(union) else float("nan")


def overlap(a: Int[np.ndarray, "k"], b: Int[np.ndarray, "l"]) -> float:
    """Return the share of K features that two top-K sets have in common; by chance K / D.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import overlap
        >>> overlap(np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6]))
        0.5
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"two sets of one size >= 1 are needed, got {len(a)} and {len(b)}")
    return len(np.intersect1d(a, b)) / len(a)


def chance_overlap(k: int, dimensions: int) -> float:
    """Return the expected overlap of two random sets of k features out of D: K / D.

    Example:
        >>> from divaug.latent import chance_overlap
        >>> chance_overlap(8, 64)
        0.125
    """
    return k / dimensions


def rank_biased_overlap(a: Int[np.ndarray, "k"], b: Int[np.ndarray, "l"], p: float = 0.9) -> float:
    """Return the extrapolated rank-biased overlap of two rankings of one length, 0 (disjoint) to 1 (equal).

    Args:
        a: Features, most important first, none twice.
        b: Features, most important first, none twice.
        p: Persistence in (0, 1): the smaller, the more the first ranks count.

    Reference:
        Webber, Moffat and Zobel, A similarity measure for indefinite rankings, ACM TOIS 28(4), 2010, equation 32.

    Differs from the paper: both rankings must have the same length.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import rank_biased_overlap
        >>> a, b = np.array([1, 2, 3]), np.array([2, 1, 3])
        >>> round(rank_biased_overlap(a, a), 3), round(rank_biased_overlap(a, b), 3)
        (1.0, 0.9)
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"two rankings of one length >= 1 are needed, got {len(a)} and {len(b)}")
    if not 0 < p < 1:
        raise ValueError(f"p must lie in (0, 1), got {p}")
    depths = np.arange(1, len(a) + 1)
    agreement = np.array([len(np.intersect1d(a[:d], b[:d])) for d in depths]) / depths
    return float(agreement[-1] * p ** len(a) + (1 - p) / p * (agreement * p**depths).sum())

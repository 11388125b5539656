"""Species-richness numbers of top-K sets at a common sample size."""

import numpy as np
from jaxtyping import Float, Int


def rarefied_number(incidence: Int[np.ndarray, "*C D"], n: Int[np.ndarray, "*C"], m: int) -> Float[np.ndarray, "*C"]:
    """Return the expected number of distinct features in the top-K sets of m pictures drawn without replacement.

    sum over features of 1 - C(n - f, m) / C(n, m), exact. A raw number of distinct features grows with n and then
    saturates; this one can be compared between classes of different size. Its ceiling is min(D, m * K).

    Args:
        incidence: f, the number of pictures whose top-K set holds each feature, 0 <= f <= n.
        n: Pictures counted.
        m: Pictures drawn, >= 1.

    Returns:
        The number, NaN where n < m.

    Raises:
        ValueError: m < 1, or a feature counted more often than there are pictures.

    Reference:
        Hurlbert, The nonconcept of species diversity, Ecology 52, 1971; incidence form of Chao and Jost 2012.

    Differs from the paper: nothing.
    """
    if m < 1:
        raise ValueError(f"m must be >= 1, got {m}")
    total = np.asarray(n, dtype=np.float64)[..., None]
    found = np.asarray(incidence, dtype=np.float64)
    if (found > total).any():
        raise ValueError("a feature is counted more often than there are pictures")
    # C(n - f, m) / C(n, m) is the product over j < m of 1 - f / (n - j); logs of gamma functions would cancel.
    log_missed = np.zeros(np.broadcast_shapes(found.shape, total.shape))
    with np.errstate(divide="ignore"):  # log 0: the feature cannot be missed
        for j in range(m):
            log_missed += np.log1p(-np.minimum(found / np.maximum(total - j, 1), 1))
    return np.where(total[..., 0] >= m, -np.expm1(log_missed).sum(-1), np.nan)


def ceiling(dimensions: int, m: int, k: int) -> int:
    """Return the largest value that a rarefied number can take: min(D, m * K)."""
    return min(dimensions, m * k)

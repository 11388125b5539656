"""Which feature of one network corresponds to which of another, so that identity can be compared across networks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Alignment(NamedTuple):
    """A matching of features.

    Attributes:
        partner: For each feature of the first network, its partner in the second, ``(D,)``.
        correlation: Their correlations over the probe images, ``(D,)``; 0 for a feature that never varies.
    """

    partner: np.ndarray
    correlation: np.ndarray


def align(first: Float[np.ndarray, "N D"], second: Float[np.ndarray, "M E"]) -> Alignment:
    """Match the features of two networks one to one by their correlation over common probe images (Hungarian).

    Two independently trained networks number their features arbitrarily: without alignment they share top-K indices
    only by chance (K / D). With it, compare with the overlap between two networks that differ only in their seed.

    Args:
        first: FE of the first network.
        second: FE of the second network for the same images, in the same order.

    Raises:
        ValueError: Different shapes.

    Reference:
        Li et al., Convergent Learning, ICLR 2016, arXiv:1511.07543.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import align
        >>> first = np.array([[0.0, 5.0], [1.0, 3.0], [2.0, 4.0]])
        >>> second = 10 * first[:, ::-1]  # the same features in another order
        >>> align(first, second).partner.tolist()
        [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    if first.shape != second.shape:
        raise ValueError(f"FE of one shape over the same images are needed, got {first.shape} and {second.shape}")
    correlation = _standardised(first).T @ _standardised(second) / len(first)
    rows, columns = linear_sum_assignment(-correlation)
    return Alignment(columns, correlation[rows, columns])


def _standardised(features: np.ndarray) -> np.ndarray:
    rows = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    deviation = np.sqrt((rows**2).mean(0))
    return np.divide(rows, deviation, out=np.zeros_like(rows), where=deviation > 1e-12)


def aligned_overlap(alignment: Alignment, top: Int[np.ndarray, "k"], other_top: Int[np.ndarray, "l"]) -> float:
    """Return the share of a class's top-K in the first network whose partners are in its top-K in the second.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import align, aligned_overlap
        >>> first = np.array([[0.0, 5.0], [1.0, 3.0], [2.0, 4.0]])
        >>> alignment = align(first, first[:, ::-1])  # feature 0 of one is feature 1 of the other
        >>> aligned_overlap(alignment, np.array([0]), np.array([1]))
        1.0
    """
    if len(top) != len(other_top) or not len(top):
        raise ValueError(f"two sets of one size >= 1 are needed, got {len(top)} and {len(other_top)}")
    return len(np.intersect1d(alignment.partner[top], other_top)) / len(top)

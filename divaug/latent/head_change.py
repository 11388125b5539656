"""How a classifier's weights differ from another's, and their norms by class."""

import numpy as np
from jaxtyping import Float


def weight_change(base: Float[np.ndarray, "C D"], new: Float[np.ndarray, "E F"]) -> dict[str, float]:
    """Return how much the weights of one head differ from another's, elementwise.

    ``mean`` and ``median`` of |new - base| / |base| (weights that are exactly 0 in ``base`` left out), and ``l1``,
    sum |new - base| / sum |base|. Elements belong together only where the two networks share their extractor; for
    others, and to judge any number, compare with the same of two networks that differ in their data cut alone.

    Reference:
        Dablain and Chawla, Towards Understanding How Data Augmentation Works with Imbalanced Data, arXiv:2304.05895
        (the mean).

    Differs from the paper: the mean is dominated by weights near 0; median and l1 stand beside it.
    """
    if base.shape != new.shape:
        raise ValueError(f"heads of one shape are needed, got {base.shape} and {new.shape}")
    difference, size = np.abs(new.astype(np.float64) - base), np.abs(base.astype(np.float64))
    relative = difference[size > 0] / size[size > 0]
    return {
        "mean": float(relative.mean()) if len(relative) else float("nan"),
        "median": float(np.median(relative)) if len(relative) else float("nan"),
        "l1": float(difference.sum() / size.sum()) if size.sum() else float("nan"),
    }


def weight_norms(weight: Float[np.ndarray, "C D"]) -> Float[np.ndarray, "C"]:
    """Return the Euclidean norm of each class's weights."""
    return np.linalg.norm(weight.astype(np.float64), axis=1)

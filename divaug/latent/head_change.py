"""How one classifier's weights differ from another's, and their norms by class."""

import numpy as np
from jaxtyping import Float


def weight_change(base: Float[np.ndarray, "C D"], new: Float[np.ndarray, "E F"]) -> dict[str, float]:
    """Return how much the weights of one head differ from another's, elementwise.

    ``mean`` and ``median`` of ``|new - base| / |base|`` (weights that are exactly 0 in ``base`` are left out), and
    ``l1``, which is ``sum |new - base| / sum |base|``. Elements correspond only where the two networks share their
    extractor; for other networks, and to judge any value, compare with two networks that differ only in their data cut.

    Reference:
        Dablain and Chawla, Towards Understanding How Data Augmentation Works with Imbalanced Data, arXiv:2304.05895
        (the mean).

    Differs from the paper: the mean is dominated by weights near 0; median and l1 are returned next to it.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import weight_change
        >>> weight_change(np.array([[1.0, 4.0]]), np.array([[2.0, 4.0]]))
        {'mean': 0.5, 'median': 0.5, 'l1': 0.2}
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
    """Return the Euclidean norm of each class's weights.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import weight_norms
        >>> weight_norms(np.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
        [5.0, 1.0]
    """
    return np.linalg.norm(weight.astype(np.float64), axis=1)

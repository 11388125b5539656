"""Statistics of one class's features."""

import numpy as np
from jaxtyping import Float, Int


def effective_number(frequency: Float[np.ndarray, "*C D"]) -> Float[np.ndarray, "*C"]:
    """Return exp(entropy) of the shares in which features are used: 1 to D, NaN where none is used.

    Args:
        frequency: Counts or frequencies >= 0.

    Reference:
        Hill, Diversity and evenness, Ecology 54, 1973 (order 1).
    """
    total = frequency.sum(-1, keepdims=True)
    share = np.divide(frequency, total, out=np.zeros(frequency.shape), where=total > 0)
    logs = np.log(share, out=np.zeros(frequency.shape), where=share > 0)
    return np.where(total[..., 0] > 0, np.exp(-(share * logs).sum(-1)), np.nan)


def class_top_k(mean_ce: Float[np.ndarray, "*C D"], k: int) -> Int[np.ndarray, "*C K"]:
    """Return the k features of largest mean CE of each class, ties to the lower index (the class's top-K CE)."""
    return np.argsort(-mean_ce, axis=-1, kind="stable")[..., :k]


def class_magnitude(mean_ce: Float[np.ndarray, "*C D"], k: int) -> Float[np.ndarray, "*C"]:
    """Return the mean CE over each class's top-K features."""
    return np.take_along_axis(mean_ce, class_top_k(mean_ce, k), axis=-1).mean(-1)

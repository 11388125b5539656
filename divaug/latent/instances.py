"""Top-K sets of single pictures, as boolean masks: fixed K, and as many as a prediction needs. No torch."""

import numpy as np
from jaxtyping import Bool, Float, Int

SLACK = 1e-6  # sums in another order may miss the rival's logit by rounding


def descending_ranks(values: Float[np.ndarray, "n D"]) -> Int[np.ndarray, "n D"]:
    """Return the rank of every value within its row, 0 the largest; ties to the lower index."""
    order = np.argsort(-values, axis=1, kind="stable")
    ranks = np.empty(values.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, np.arange(values.shape[1], dtype=np.int32)[None], axis=1)
    return ranks


def fixed_top_k(values: Float[np.ndarray, "n D"], k: int) -> Bool[np.ndarray, "n D"]:
    """Return each picture's top-K set: its k largest contributions, as far as they are > 0.

    Args:
        values: Contributions: CE, or FE where there is no head.
        k: 1 to D.

    Raises:
        ValueError: k outside 1 to D.

    Differs from the paper: zeros and negative contributions are left out; ties go to the lower index, not the higher.
    """
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k must lie in 1 to D = {values.shape[1]}, got {k}")
    return (descending_ranks(values) < k) & (values > 0)


def adaptive_top_k(
    ce: Float[np.ndarray, "n D"],
    bias: Float[np.ndarray, "n"],
    rival: Float[np.ndarray, "n"],
    scale: float = 1.0,
) -> Bool[np.ndarray, "n D"]:
    """Return for each picture the fewest largest CE that carry its class past the rival.

    The smallest prefix of the CE in descending order whose sum, with the bias and all negative CE, reaches the rival's
    logit. Where no prefix does (the class lost), all positive CE belong. In float64, with a slack of 1e-6.

    Args:
        ce: CE of the class in question.
        bias: Bias of that class.
        rival: Largest logit of any other class.
        scale: Logits are scale * (sum of CE) + bias.

    Reference:
        Dablain et al., arXiv:2407.10165, "number of CE required to predict an instance".

    Differs from the paper: the bias is of the class whose CE are summed, where the authors' code takes the true
    class's for every picture; only CE > 0 enter a set.
    """
    ce = scale * ce.astype(np.float64)
    order = np.argsort(-ce, axis=1, kind="stable")
    ordered = np.take_along_axis(ce, order, axis=1)
    start = bias + np.minimum(ordered, 0).sum(1)
    reached = start[:, None] + np.concatenate([np.zeros((len(ce), 1)), ordered.cumsum(1)], axis=1)
    enough = reached >= rival[:, None] - SLACK
    sizes = np.where(enough.any(1), enough.argmax(1), ce.shape[1])
    belongs = np.empty(ce.shape, dtype=bool)
    np.put_along_axis(belongs, order, np.arange(ce.shape[1])[None] < sizes[:, None], axis=1)
    return belongs & (ce > 0)


def k_curve(values: Float[np.ndarray, "n D"]) -> Int[np.ndarray, "D"]:
    """Return the number of distinct features in the pictures' top-K sets for K = 1 to D.

    A feature is in some set from the smallest rank on that it takes in any picture with a contribution > 0.
    """
    dimensions = values.shape[1]
    ranks = np.where(values > 0, descending_ranks(values), dimensions)
    first = ranks.min(0, initial=dimensions)
    return np.bincount(first, minlength=dimensions + 1)[:dimensions].cumsum()

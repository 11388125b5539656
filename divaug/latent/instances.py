"""Top-K sets of single pictures, as boolean masks: fixed K, and as many as a prediction needs. No torch."""

import numpy as np
from jaxtyping import Bool, Float, Int

SLACK = 1e-6  # sums in another order may miss the rival's logit by rounding


def descending_order(values: Float[np.ndarray, "n D"]) -> Int[np.ndarray, "n D"]:
    """Return the indices of every row by falling value; equal values > 0 in the order of their indices.

    What is <= 0 belongs to no set, so its order does not matter; numpy's unstable sort is many times faster, and only
    rows with ties among positive values are sorted again.
    """
    order = np.argsort(-values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    tied = ((ordered[:, :-1] == ordered[:, 1:]) & (ordered[:, 1:] > 0)).any(1)
    if tied.any():
        order[tied] = np.argsort(-values[tied], axis=1, kind="stable")
    return order


def fixed_top_k(
    values: Float[np.ndarray, "n D"], k: int, order: Int[np.ndarray, "n D"] | None = None
) -> Bool[np.ndarray, "n D"]:
    """Return each picture's top-K set: its k largest contributions, as far as they are > 0.

    Args:
        values: Contributions: CE, or FE where there is no head.
        k: 1 to D.
        order: ``descending_order(values)``, where it is known already.

    Raises:
        ValueError: k outside 1 to D.

    Differs from the paper: zeros and negative contributions are left out; ties go to the lower index, not the higher.
    """
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k must lie in 1 to D = {values.shape[1]}, got {k}")
    order = descending_order(values) if order is None else order
    belongs = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(belongs, order[:, :k], True, axis=1)
    return belongs & (values > 0)


def adaptive_top_k(
    ce: Float[np.ndarray, "n D"],
    bias: Float[np.ndarray, "n"],
    rival: Float[np.ndarray, "n"],
    scale: float = 1.0,
    order: Int[np.ndarray, "n D"] | None = None,
) -> Bool[np.ndarray, "n D"]:
    """Return for each picture the fewest largest CE that carry its class past the rival.

    The smallest prefix of the CE in descending order whose sum, with the bias and all negative CE, reaches the rival's
    logit. Where no prefix does (the class lost), all positive CE belong. In float64, with a slack of 1e-6.

    Args:
        ce: CE of the class in question.
        bias: Bias of that class.
        rival: Largest logit of any other class.
        scale: Logits are scale * (sum of CE) + bias.
        order: ``descending_order(ce)``, where it is known already.

    Reference:
        Dablain et al., arXiv:2407.10165, "number of CE required to predict an instance".

    Differs from the paper: the bias is of the class whose CE are summed, where the authors' code takes the true
    class's for every picture; only CE > 0 enter a set.
    """
    ce = scale * ce.astype(np.float64)
    order = descending_order(ce) if order is None else order
    ordered = np.take_along_axis(ce, order, axis=1)
    start = bias + np.minimum(ordered, 0).sum(1)
    reached = start[:, None] + np.concatenate([np.zeros((len(ce), 1)), ordered.cumsum(1)], axis=1)
    enough = reached >= rival[:, None] - SLACK
    sizes = np.where(enough.any(1), enough.argmax(1), ce.shape[1])
    belongs = np.empty(ce.shape, dtype=bool)
    np.put_along_axis(belongs, order, np.arange(ce.shape[1])[None] < sizes[:, None], axis=1)
    return belongs & (ce > 0)


def k_curve(values: Float[np.ndarray, "n D"], order: Int[np.ndarray, "n D"] | None = None) -> Int[np.ndarray, "D"]:
    """Return the number of distinct features in the pictures' top-K sets for K = 1 to D.

    A feature is in some set from the smallest rank on that it takes in any picture with a contribution > 0.
    """
    dimensions = values.shape[1]
    order = descending_order(values) if order is None else order
    argues = np.arange(dimensions)[:, None] < (values > 0).sum(1)  # (rank, picture)
    features = order.T[argues]  # by rising rank
    first = np.full(dimensions, dimensions)
    # Of an index given several times numpy keeps the value given last: in reverse, the smallest rank.
    first[features[::-1]] = np.repeat(np.arange(dimensions), argues.sum(1))[::-1]
    return np.bincount(first, minlength=dimensions + 1)[:dimensions].cumsum()

"""Top-K sets of single images, as boolean masks: of fixed K, or as large as a prediction needs. No torch."""

import numpy as np
from jaxtyping import Bool, Float, Int

SLACK = 1e-6  # sums in another order may miss the rival's logit by rounding


def descending_order(values: Float[np.ndarray, "n D"]) -> Int[np.ndarray, "n D"]:
    """Return the indices of each row by descending value; equal values > 0 stay in the order of their indices.

    Values <= 0 belong to no set, so their order does not matter: numpy's unstable sort is many times faster, and only
    rows with ties among positive values are sorted again.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import descending_order
        >>> descending_order(np.array([[1.0, 3.0, 2.0, 3.0]])).tolist()
        [[1, 3, 2, 0]]
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
    """Return each image's top-K set: its k largest contributions, leaving out those that are not > 0.

    Args:
        values: Contributions: CE, or FE where there is no head.
        k: 1 to D.
        order: ``descending_order(values)``, where it is known already.

    Raises:
        ValueError: k outside 1 to D.

    Differs from the paper: zeros and negative contributions are left out; ties go to the lower index, not the higher.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import fixed_top_k
        >>> fixed_top_k(np.array([[3.0, 0.0, 1.0, 2.0], [0.0, 5.0, 0.0, -1.0]]), 2).astype(int).tolist()
        [[1, 0, 0, 1], [0, 1, 0, 0]]
    """
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k must lie in 1 to D = {values.shape[1]}, got {k}")
    if order is None:
        return _above_kth(values, k) & (values > 0)
    belongs = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(belongs, order[:, :k], True, axis=1)
    return belongs & (values > 0)


def _above_kth(values: Float[np.ndarray, "n D"], k: int) -> Bool[np.ndarray, "n D"]:
    """Return the k largest values of each row, of equal ones the first: a partition costs a fraction of a sort."""
    values = np.where(values > 0, values, 0.0)  # nothing else belongs to a set: NaN would be sorted as the largest
    kth = np.partition(values, values.shape[1] - k, axis=1)[:, -k, None]
    belongs = values >= kth
    tied = belongs.sum(1) > k
    if tied.any():
        above, equal = values[tied] > kth[tied], values[tied] == kth[tied]
        belongs[tied] = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdims=True)))
    return belongs


def adaptive_top_k(
    ce: Float[np.ndarray, "n D"],
    bias: Float[np.ndarray, "n"],
    rival: Float[np.ndarray, "n"],
    scale: float = 1.0,
    order: Int[np.ndarray, "n D"] | None = None,
) -> Bool[np.ndarray, "n D"]:
    """Return, for each image, the smallest set of its largest CE that carries its class past the rival.

    It is the shortest prefix of the CE in descending order whose sum, with the bias and all negative CE, reaches the
    rival's logit. Where no prefix does (the class lost), all positive CE belong. Computed in float64, with a slack of
    1e-6.

    Args:
        ce: CE of the class in question.
        bias: Bias of that class.
        rival: Largest logit of any other class.
        scale: Logits are scale * (sum of CE) + bias.
        order: ``descending_order(ce)``, where it is known already.

    Reference:
        Dablain et al., arXiv:2407.10165, "number of CE required to predict an instance".

    Differs from the paper: the bias is that of the class whose CE are summed, where the authors' code takes the true
    class's for every image; only CE > 0 enter a set.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import adaptive_top_k
        >>> ce, bias, rival = np.array([[3.0, 2.0, 1.0, -1.0]]), np.array([0.0]), np.array([3.5])
        >>> adaptive_top_k(ce, bias, rival).astype(int).tolist()  # -1 + 3 + 2 reaches 3.5
        [[1, 1, 0, 0]]
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
    """Return the number of distinct features in the images' top-K sets for K = 1 to D.

    A feature counts from the smallest rank that it takes, with a contribution > 0, in any image.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import k_curve
        >>> k_curve(np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 0.0]])).tolist()
        [2, 2, 3]
    """
    dimensions = values.shape[1]
    order = descending_order(values) if order is None else order
    argues = np.arange(dimensions)[:, None] < (values > 0).sum(1)  # (rank, image)
    features = order.T[argues]  # by rising rank
    first = np.full(dimensions, dimensions)
    # Of an index given several times numpy keeps the value given last: in reverse, the smallest rank.
    first[features[::-1]] = np.repeat(np.arange(dimensions), argues.sum(1))[::-1]
    return np.bincount(first, minlength=dimensions + 1)[:dimensions].cumsum()

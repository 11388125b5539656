"""How test images differ from training images in latent space: magnitude of the class top-K, range, mean."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from divaug.latent.embeddings import Embeddings
from divaug.latent.statistics import class_top_k

REPEATS = 200
BATCH = 2**21  # numbers drawn at once
NULL_REPEATS = 50  # a mean needs fewer than quantiles do


def range_gap(
    train: Float[np.ndarray, "*a n D"], test: Float[np.ndarray, "*b m D"], tail: float = 0.0
) -> Float[np.ndarray, "*c"]:
    """Return how far the test range extends beyond the training range, summed over features (L1), >= 0.

    Strongly biased by size: with all images from the same distribution (D = 64, 1000 test images), it is 64 for 50
    training images, 20 for 500 and 3 for 5000. Use ``matched`` to compare classes.

    Args:
        train: FE of a class's training images; leading axes, if any, are resamples.
        test: FE of its test images.
        tail: Share cut off at either end before the range is taken: 0 for minimum and maximum, 0.01 for quantiles.

    Returns:
        The gap; NaN where either set has no images.

    Reference:
        Dablain, Bellinger, Krawczyk and Chawla, Efficient Augmentation for Imbalanced Deep Learning, arXiv:2207.06080.

    Differs from the paper: its text gives no formula; this is the Manhattan overhang that it describes.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import range_gap
        >>> train, test = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[-1.0, 2.0], [2.5, 2.5]])
        >>> float(range_gap(train, test))  # 1 below and 0.5 above in the first feature
        1.5
    """
    if not train.shape[-2] or not test.shape[-2]:
        return np.array(np.nan)
    (low, high), (test_low, test_high) = _range(train, tail), _range(test, tail)
    return np.asarray((np.maximum(test_high - high, 0) + np.maximum(low - test_low, 0)).sum(-1, dtype=np.float64))


def _range(rows: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    if tail:
        low, high = np.quantile(rows, (tail, 1 - tail), axis=-2)
        return low, high
    return rows.min(-2), rows.max(-2)


def mean_shift(train: Float[np.ndarray, "*a n D"], test: Float[np.ndarray, "*b m D"]) -> Float[np.ndarray, "*c"]:
    """Return the Euclidean distance between the means of training and test FE; NaN where either set has no images.

    Reference:
        Ye et al., Identifying and Compensating for Feature Deviation in Imbalanced Deep Learning, arXiv:2001.01385.

    Differs from the paper: the formula is taken from its abstract.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import mean_shift
        >>> train, test = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[1.0, 3.0]])
        >>> float(mean_shift(train, test))
        3.0
    """
    if not train.shape[-2] or not test.shape[-2]:
        return np.array(np.nan)
    return np.asarray(np.linalg.norm(train.mean(-2) - test.mean(-2), axis=-1), dtype=np.float64)


class Resampled(NamedTuple):
    """A statistic over resamples: mean, 2.5 % and 97.5 % quantiles, and its mean where there is nothing to find."""

    value: float
    low: float
    high: float
    null: float


def matched(
    statistics: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]],
    train: Float[np.ndarray, "n D"],
    test: Float[np.ndarray, "m D"],
    rng: np.random.Generator,
    repeats: int = REPEATS,
) -> dict[str, Resampled]:
    """Return train-test statistics at equal sizes: both parts resampled to the smaller of the two.

    The null deals the pooled images at random into a "training" and a "test" half of that same size: it is the value
    that a statistic takes where training and test images have the same source.

    Args:
        statistics: Name to function of ``(..., n, D)`` arrays, for example ``range_gap``; all are computed on the
            same draws.
        train: FE of a class's training images.
        test: FE of its test images.
        rng: Draws the subsets.
        repeats: Resamples, >= 1; the null takes at most 50.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import matched, mean_shift
        >>> rng = np.random.default_rng(0)
        >>> train, test = rng.normal(size=(30, 4)), rng.normal(size=(100, 4)) + 2.0
        >>> found = matched({"mean_shift": mean_shift}, train, test, rng)["mean_shift"]
        >>> round(found.value), found.low > found.null  # 2 in each of four dimensions
        (4, True)
    """
    size = min(len(train), len(test))
    if not size:
        return {name: Resampled(*[float("nan")] * 4) for name in statistics}

    values: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    null: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    pool = np.concatenate([train, test])
    at_once = max(1, BATCH // (2 * size * pool.shape[1]))
    times = repeats if len(train) != len(test) else 1
    for start in range(0, times, at_once):
        draws = min(at_once, times - start)
        pair = (rows if len(rows) == size else rows[_subsets(rng, len(rows), size, draws)] for rows in (train, test))
        ours, theirs = pair
        for name, statistic in statistics.items():
            values[name].append(np.atleast_1d(statistic(ours, theirs)))
    times = min(repeats, NULL_REPEATS)
    for start in range(0, times, at_once):
        dealt = pool[_subsets(rng, len(pool), 2 * size, min(at_once, times - start))]
        for name, statistic in statistics.items():
            null[name].append(statistic(dealt[:, :size], dealt[:, size:]))
    found = {}
    for name in statistics:
        drawn = np.concatenate(values[name])
        low, high = np.quantile(drawn, (0.025, 0.975))
        mean_null = np.concatenate(null[name]).mean()
        found[name] = Resampled(float(drawn.mean()), float(low), float(high), float(mean_null))
    return found


def _subsets(rng: np.random.Generator, n: int, size: int, draws: int) -> np.ndarray:
    """Draw subsets of range(n) without replacement, each in random order, ``(draws, size)``."""
    return np.stack([rng.choice(n, size, replace=False) for _ in range(draws)])


class MagnitudeShift(NamedTuple):
    """Train-test comparison of the magnitude of a class's top-K, in forms that are not circular.

    Comparing recognised with missed test images is circular: a missed image was selected for a low logit, which is
    the sum of its CE. So ``ce`` and ``fe`` are over all members, and ``shape`` has the sum divided out.

    Attributes:
        top: The class's top-K, from its recognised training images (all members where none is recognised).
        ce: Mean CE over ``top`` of test members, divided by that of training members; 1 for no difference.
        fe: The same for FE.
        shape: Half the L1 distance between the positive mean CE of test and training members, each scaled to sum 1:
            0 to 1.
        train_magnitude: Mean CE over ``top`` of training members.
        train_margin: Mean logit margin of training members, the trivial baseline (NaN without a head).
        test_margin: Mean logit margin of test members.
    """

    top: np.ndarray
    ce: float
    fe: float
    shape: float
    train_magnitude: float
    train_margin: float
    test_margin: float


def magnitude_shift(train: Embeddings, test: Embeddings, c: int, k: int = 10) -> MagnitudeShift:
    """Compare the magnitude of a class's top-K in training and test images; see ``MagnitudeShift``.

    Reference:
        Dablain et al., arXiv:2210.09465 (the claim; no code and no formula are published).

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, magnitude_shift
        >>> labels, names = np.array([0, 1]), ("cat", "dog")
        >>> train = Embeddings(np.array([[4.0, 0.0], [0.0, 2.0]]), labels, names)
        >>> test = Embeddings(np.array([[3.0, 1.0], [0.0, 2.0]]), labels, names, split="test")
        >>> found = magnitude_shift(train, test, 0, k=1)
        >>> found.top.tolist(), found.fe, found.shape
        ([0], 0.75, 0.25)
    """
    ours, theirs = train.rows(c), test.rows(c)
    if not len(ours) or not len(theirs):
        return MagnitudeShift(np.empty(0, dtype=np.int64), *[float("nan")] * 6)
    recognised = train.rows(c, "TP") if train.has_head else ours
    source = recognised if len(recognised) else ours
    top = class_top_k(train.contributions(source).mean(0), k)
    ce = train.contributions(ours).mean(0), test.contributions(theirs).mean(0)
    fe = train.features[ours].mean(0, dtype=np.float64), test.features[theirs].mean(0, dtype=np.float64)
    return MagnitudeShift(
        top, _ratio(ce[1][top].mean(), ce[0][top].mean()), _ratio(fe[1][top].mean(), fe[0][top].mean()),
        profile_distance(*ce), float(ce[0][top].mean()), mean_margin(train, ours), mean_margin(test, theirs),
    )  # fmt: skip


def profile_distance(a: Float[np.ndarray, "D"], b: Float[np.ndarray, "D"]) -> float:
    """Return half the L1 distance between two profiles' positive parts, each scaled to sum 1: 0 (same shape) to 1.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import profile_distance
        >>> profile_distance(np.array([1.0, 3.0]), np.array([2.0, 2.0]))  # shares 1/4, 3/4 and 1/2, 1/2
        0.25
    """
    parts = [np.maximum(x, 0.0) for x in (a, b)]
    if not all(part.sum() > 0 for part in parts):
        return float("nan")
    return float(np.abs(parts[0] / parts[0].sum() - parts[1] / parts[1].sum()).sum() / 2)


def mean_margin(embeddings: Embeddings, rows: Int[np.ndarray, "n"]) -> float:
    """Return the mean difference between the true logit and the largest other one; NaN without a head."""
    if embeddings.logits is None or not len(rows):
        return float("nan")
    own = embeddings.logits[rows, embeddings.labels[rows]].astype(np.float64)
    return float((own - embeddings.rivals(rows, "true")).mean())


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else float("nan")


def predict_left_out(predictors: Float[np.ndarray, "C p"], outcome: Float[np.ndarray, "C"]) -> float:
    """Return the R^2 of predicting each class's outcome from the other classes by least squares.

    Below 0 is worse than predicting their mean. Use it to ask whether quantities known before testing (training
    magnitude, top-share) predict test recall. NaN for fewer than p + 3 classes, or a constant outcome.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import predict_left_out
        >>> predictors = np.array([[1.0], [2.0], [3.0], [4.0]])
        >>> round(predict_left_out(predictors, np.array([3.0, 5.0, 7.0, 9.0])), 3)  # 2 x + 1
        1.0
    """
    known = ~(np.isnan(predictors).any(1) | np.isnan(outcome))
    x, y = predictors[known], outcome[known]
    if len(y) < x.shape[1] + 3 or np.ptp(y) == 0:
        return float("nan")
    design = np.column_stack([np.ones(len(y)), x])
    errors, baseline = [], []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        fitted = np.linalg.lstsq(design[rest], y[rest], rcond=None)[0]
        errors.append(y[i] - design[i] @ fitted)
        baseline.append(y[i] - y[rest].mean())
    return float(1 - np.square(errors).sum() / np.square(baseline).sum())

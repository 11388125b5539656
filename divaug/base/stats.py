"""Statistics over seeds: t and sign-flip intervals and tests, equivalence, power, Holm, intervals of shares."""

from collections.abc import Sequence
from itertools import product
from math import floor, isnan, sqrt
from statistics import NormalDist

import numpy as np

EXACT = 16  # pairs; above, 2^n sign patterns are sampled


def sign_flip_p(differences: Sequence[float], *, seed: int = 0, samples: int = 2**EXACT) -> float:
    """Return the two-sided p of paired differences under random signs: exact up to 16 pairs, sampled above.

    It is the share of sign patterns whose mean is at least as far from 0, never below 2 / 2^n. With five pairs the
    smallest possible p is 0.0625, with six 0.031. Differences of 0 stay.

    Args:
        differences: One per seed; NaN are left out.
        seed: Seed of the sampled patterns.
        samples: How many patterns are sampled.

    Returns:
        p, NaN without a difference.

    Reference:
        Fisher, The Design of Experiments, 1935.
    """
    values = np.array([d for d in differences if not np.isnan(d)])
    if not len(values):
        return float("nan")
    observed = abs(values.mean())
    if len(values) <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(values))))
        extra = 0
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), (samples, len(values)))
        extra = 1  # the observed pattern itself
    reached = np.abs((signs * values).mean(1)) >= observed * (1 - 1e-12)
    return float((reached.sum() + extra) / (len(signs) + extra))


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample, exactly 0 where it is only what rounding leaves of equal values.

    NaN for fewer than two values.
    """
    if len(values) < 2:
        return float("nan")
    sd = float(np.std(values, ddof=1))
    return sd if sd > 1e-9 * max(1.0, float(np.abs(values).max())) else 0.0


def sign_flip_interval(
    differences: Sequence[float], *, confidence: float = 0.95, seed: int = 0, samples: int = 2**EXACT
) -> tuple[float, float]:
    """Return the interval that inverts the two-sided sign-flip test: it assumes symmetry, not a normal distribution.

    It holds every shift for which ``sign_flip_p`` of the differences less the shift is above 1 - confidence. Its ends
    are means of subsets of the differences (Hartigan's typical values). Over five differences or fewer no interval of
    95 % has ends, since the smallest p is 0.0625; over six it reaches from the smallest to the largest.

    Args:
        differences: One per seed; NaN are left out.
        confidence: Coverage, where the differences are symmetric about their mean.
        seed: Seed of the sampled subsets, above 16 differences.
        samples: How many subsets are sampled.

    Returns:
        Low and high, infinite where the differences are too few; NaN without a difference.

    Reference:
        Hartigan, Using Subsample Values as Typical Values, JASA 64, 1969.
    """
    values = np.array([d for d in differences if not np.isnan(d)])
    if not len(values):
        return float("nan"), float("nan")
    if len(values) <= EXACT:
        chosen = np.array(list(product((0.0, 1.0), repeat=len(values))))[1:]
    else:
        chosen = np.random.default_rng(seed).integers(0, 2, (samples, len(values))).astype(float)
        chosen = chosen[chosen.any(1)]
    means = np.sort(chosen @ values / chosen.sum(1))
    # With the empty subset (all signs kept) these are all patterns; at most this many may lie beyond each end.
    beyond = floor((1 - confidence) / 2 * (len(means) + 1) + 1e-9)
    if not beyond:
        return float("-inf"), float("inf")
    return float(means[beyond - 1]), float(means[-beyond])


# Every comparison needs one of these, and scipy.stats takes a second longer to import than scipy.special.
def t_quantile(share: float, df: int) -> float:
    """Return the value below which a share of Student's t distribution lies.

    Args:
        share: In (0, 1).
        df: Degrees of freedom, >= 1.
    """
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def _t_beyond(value: float, df: int) -> float:
    """Return the share of Student's t distribution above a value."""
    from scipy.special import stdtr

    return float(stdtr(df, -value))


def _standard_error(values: np.ndarray, overlap: float) -> float:
    """Return the standard error of a mean; see ``t_interval``."""
    return float(values.std(ddof=1)) * sqrt(1 / len(values) + overlap)


def t_p(values: Sequence[float], *, overlap: float = 0.0) -> float:
    """Return the two-sided p of Student's t test that a mean is 0; NaN for fewer than two values or without spread.

    Args:
        values: One per run; NaN are left out.
        overlap: See ``t_interval``.
    """
    known = np.array([v for v in values if not np.isnan(v)])
    if len(known) < 2 or not spread(known.tolist()):
        return float("nan")
    return 2 * _t_beyond(abs(known.mean()) / _standard_error(known, overlap), len(known) - 1)


def equivalence_p(differences: Sequence[float], margin: float, *, overlap: float = 0.0) -> float:
    """Return the p of two one-sided t tests: small if the mean difference lies within the margin on both sides.

    At 0.05 it agrees with the interval of 90 %: p < 0.05 where that lies inside (-margin, margin).

    Args:
        differences: One per seed; NaN are left out.
        margin: The largest difference that does not matter, > 0, in their unit.
        overlap: See ``t_interval``.

    Returns:
        p, NaN for fewer than two differences or without spread.

    Raises:
        ValueError: The margin is not above 0.

    Reference:
        Schuirmann, A Comparison of the Two One-Sided Tests Procedure, 1987.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be above 0, got {margin}")
    known = np.array([d for d in differences if not np.isnan(d)])
    if len(known) < 2 or not spread(known.tolist()):
        return float("nan")
    room = (margin - abs(known.mean())) / _standard_error(known, overlap)
    return _t_beyond(room, len(known) - 1)


def t_interval(values: Sequence[float], *, confidence: float = 0.95, overlap: float = 0.0) -> tuple[float, float]:
    """Return Student's t interval of a mean; NaN for fewer than two values.

    It is the interval for few runs: over eight, BCa's covers 0.90 instead of 0.95.

    Args:
        values: One per run, independent but for ``overlap``; NaN are left out.
        confidence: Coverage, where the values are normal.
        overlap: Of runs that split the same images anew, test images over training images: such runs share most of
            their training images, so their mean is less certain than the mean of as many independent runs. 0 if they
            share none, or no more than the training images of new cuts from a large pool.

    Reference:
        Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52, 2003 (``overlap``).
    """
    known = np.array([v for v in values if not np.isnan(v)])
    if len(known) < 2:
        return float("nan"), float("nan")
    half = t_quantile((1 + confidence) / 2, len(known) - 1) * _standard_error(known, overlap)
    return float(known.mean() - half), float(known.mean() + half)


def runs_needed(sd: float, effect: float, *, power: float = 0.8, confidence: float = 0.95, overlap: float = 0.0) -> int:
    """Return how many paired runs a t test needs to find a difference, two-sided.

    Args:
        sd: Standard deviation of the paired differences, >= 0, in the unit of ``effect``.
        effect: The true difference, > 0.
        power: Probability of finding it.
        confidence: 1 minus the probability of finding a difference where there is none.
        overlap: See ``t_interval``.

    Returns:
        The smallest n >= 2 whose test has that power; 10,000 stands for more, or for none.

    Example:
        >>> from divaug.base.stats import runs_needed
        >>> runs_needed(sd=1.0, effect=1.0)
        10
    """
    from scipy.special import nctdtr

    def enough(n: int) -> bool:
        shift, bound = effect / (sd * sqrt(1 / n + overlap)), t_quantile((1 + confidence) / 2, n - 1)
        # NaN where the share below underflows: then the power is 1
        return not nctdtr(n - 1, shift, bound) > 1 - power

    if sd == 0:
        return 2
    low, high = 1, 2
    while high < 10_000 and not enough(high):
        low, high = high, 2 * high
    if high >= 10_000:
        return 10_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def effective_number(values: Sequence[float] | np.ndarray, groups: Sequence[object] | np.ndarray | None) -> float:
    """Return how many independent values tell as much of their distribution as values that come in groups.

    Images of one patient are alike, so that a share of a hundred images of ten patients is as uncertain as one of fewer
    images. The number is n / (1 + (m - 1) r), where m is the size of the group of an average value (the sum of squared
    sizes over n) and r the intraclass correlation of the values' normal scores (analysis of variance, not below 0). It
    does not change with the values' scale, nor with a threshold that makes shares of them.

    Args:
        values: One per image, at least one; only their order counts.
        groups: The group of each value; None if every value stands for itself.

    Raises:
        ValueError: A value or a group is missing (NaN or None).

    Returns:
        n where no group has two values, or groups make no difference; near the number of groups where they make all of
        it, or where all values are equal, which tells nothing of it.

    Reference:
        Kish, Survey Sampling, 1965 (design effect); Donner and Koval, The Estimation of Intraclass Correlation in the
        Analysis of Family Data, Biometrics 36, 1980.

    Example:
        >>> from divaug.base.stats import effective_number
        >>> round(effective_number([0.9, 0.91, 0.1, 0.11], ["a", "a", "b", "b"]), 1)
        2.3
        >>> effective_number([0.9, 0.1, 0.91, 0.11], ["a", "a", "b", "b"])
        4.0
    """
    from scipy.special import ndtri

    n = len(values)
    if groups is None:
        return float(n)
    missing = [group is None or (isinstance(group, float) and isnan(group)) for group in groups]
    if any(missing) or np.isnan(np.asarray(values, dtype=np.float64)).any():
        raise ValueError("values and groups must be known; give an image without a group one of its own")
    _, rows, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    number, size = len(sizes), float((sizes**2).sum()) / n
    if number == n:
        return float(n)
    _, order, ties = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[order]  # from 1, means of ties
    scores = ndtri((ranks - 0.5) / n)
    means = np.bincount(rows, weights=scores) / sizes
    between = float((sizes * (means - scores.mean()) ** 2).sum()) / max(1, number - 1)
    within = float(((scores - means[rows]) ** 2).sum()) / (n - number)
    usual = (n - size) / max(1, number - 1)  # group size in the expected value of the mean square between groups
    whole = between + (usual - 1) * within
    alike = 1.0 if number == 1 or whole <= 0 else min(1.0, max(0.0, (between - within) / whole))
    return n / (1 + (size - 1) * alike)


def wilson_interval(share: float, n: int | float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share of n; unlike scipy's, it also accepts a share that is not a count / n.

    Args:
        share: In [0, 1].
        n: Number of images it is a share of, at least 1; of images in groups their ``effective_number``.
        confidence: Coverage.

    Reference:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22, 1927.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, half = share + z**2 / (2 * n), z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, (middle - half) / (1 + z**2 / n)), min(1.0, (middle + half) / (1 + z**2 / n))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests by Holm's step-down method; NaN stay and are not counted.

    Reference:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    known = [i for i, p in enumerate(ps) if not np.isnan(p)]
    adjusted, largest = [float("nan")] * len(ps), 0.0
    for rank, i in enumerate(sorted(known, key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(known) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted

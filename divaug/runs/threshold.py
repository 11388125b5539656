"""Where to set a class's threshold: for a promised sensitivity or specificity, or for the least cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from divaug.base.stats import effective_number, wilson_interval

# Groups (patients, slides) that it takes: from fewer, resampling chose another of four equally good methods in 8 to 50
# of 100 trials, and how much images of a group are alike cannot be told (benchmarks/groups.py).
GROUPS = 10
HALF = 0.5  # from here on an image is more probably of the class than of all others together


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does on images that were not trained on.

    Attributes:
        threshold: An image is called the class if its probability is at least this.
        sensitivity: Share of the class's images that are called so, with its Wilson interval.
        specificity: Share of other images that are not, with its Wilson interval.
        positives, negatives: Images of the class, and others.
        independent: As how many independent images they count in the intervals: fewer where they come in groups.
    """

    threshold: float
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]
    positives: int
    negatives: int
    independent: tuple[float, float]


def independent(
    scores: Float[np.ndarray, "N"], positive: Bool[np.ndarray, "N"], groups: Sequence[object] | np.ndarray | None
) -> tuple[float, float]:
    """Return as how many independent images those of a class count, and all others; see ``effective_number``."""
    of = None if groups is None else np.asarray(groups)
    each = (effective_number(scores[part], None if of is None else of[part]) for part in (positive, ~positive))
    first, second = each
    return first, second


def operating_point(
    scores: Float[np.ndarray, "N"],
    positive: Bool[np.ndarray, "N"],
    threshold: float,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    confidence: float = 0.95,
) -> OperatingPoint:
    """Return what a threshold does.

    Args:
        scores: Probability of the class for every image.
        positive: Whether each image is of the class; there are images of both kinds.
        threshold: The threshold.
        groups: Of each image (patients, slides): images of one are alike, and tell less. None are independent images.
        confidence: Of the intervals.
    """
    return _point(scores, positive, threshold, independent(scores, positive, groups), confidence)


def _point(
    scores: np.ndarray, positive: np.ndarray, threshold: float, as_many: tuple[float, float], confidence: float = 0.95
) -> OperatingPoint:
    called = scores >= threshold
    sensitivity, specificity = float(called[positive].mean()), float((~called[~positive]).mean())
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return OperatingPoint(
        float(threshold),
        (sensitivity, *wilson_interval(sensitivity, as_many[0], confidence=confidence)),
        (specificity, *wilson_interval(specificity, as_many[1], confidence=confidence)),
        positives, negatives, as_many,
    )  # fmt: skip


def for_sensitivity(
    scores: Float[np.ndarray, "N"],
    positive: Bool[np.ndarray, "N"],
    promise: float,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    confidence: float = 0.95,
) -> tuple[OperatingPoint, bool]:
    """Return the highest threshold, at most one half, whose sensitivity has a lower Wilson bound of ``promise``.

    A class that is told well would else get a threshold such as 0.9999, where another network's probabilities are
    others: with it, red blood cells (0.91 in the folds) were found to 13, 22 and 44 % in three of twenty splits.

    Where no threshold has such a bound, because there are too few images of the class, the one that finds all of them
    is returned, and False.

    Args:
        scores: Probability of the class for every image, from networks that were not trained on it.
        positive: Whether each image is of the class.
        promise: Sensitivity, in (0, 1).
        groups: As for ``operating_point``.
        confidence: Of the interval; its lower bound is one-sided at (1 + confidence) / 2.

    Example:
        >>> import numpy as np
        >>> from divaug.runs.threshold import for_sensitivity
        >>> scores, positive = np.linspace(0, 1, 400), np.arange(400) >= 100
        >>> point, holds = for_sensitivity(scores, positive, 0.9)
        >>> round(point.sensitivity[0], 3), point.sensitivity[1] >= 0.9, holds
        (0.937, True, True)
    """
    own, as_many = np.sort(scores[positive])[::-1], independent(scores, positive, groups)
    points = (_point(scores, positive, t, as_many, confidence) for t in np.unique(own)[::-1])
    found = next((point for point in points if point.sensitivity[1] >= promise), None)
    if found is None:
        return _point(scores, positive, own[-1], as_many, confidence), False
    return (_point(scores, positive, HALF, as_many, confidence) if found.threshold > HALF else found), True


def for_specificity(
    scores: Float[np.ndarray, "N"],
    positive: Bool[np.ndarray, "N"],
    promise: float,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    confidence: float = 0.95,
) -> tuple[OperatingPoint, bool]:
    """Return the lowest threshold whose specificity has a lower Wilson bound of at least ``promise``.

    Where no threshold has one, the one that calls no other image the class is returned, and False.
    """
    above = np.append(np.unique(scores), np.nextafter(scores.max(), np.inf))
    as_many = independent(scores, positive, groups)
    points = (_point(scores, positive, t, as_many, confidence) for t in above)
    found = next((point for point in points if point.specificity[1] >= promise), None)
    if found is not None:
        return found, True
    none = np.nextafter(scores[~positive].max(), np.inf)
    return _point(scores, positive, none, as_many, confidence), False


def for_costs(
    scores: Float[np.ndarray, "N"],
    positive: Bool[np.ndarray, "N"],
    miss: float,
    false: float,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
) -> OperatingPoint:
    """Return the threshold with the least cost on these images; of several, the lowest.

    Args:
        scores: Probability of the class for every image.
        positive: Whether each image is of the class.
        miss: Cost of an image of the class that is not called so.
        false: Cost of another image that is.
        groups: As for ``operating_point``.
    """
    candidates = np.append(np.unique(scores), np.nextafter(scores.max(), np.inf))
    own, others = np.sort(scores[positive]), np.sort(scores[~positive])
    missed = np.searchsorted(own, candidates, side="left")  # below the threshold
    wrong = len(others) - np.searchsorted(others, candidates, side="left")
    best = int((miss * missed + false * wrong).argmin())
    return operating_point(scores, positive, candidates[best], groups=groups)


def temperature_of(logits: Float[np.ndarray, "N C"], labels: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy on images that were not trained on, 0.05 to 20.

    Where all of them are right it is at least 1: the least cross-entropy is then that of boundless certainty.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    own = logits[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((logsumexp(scale * logits, axis=1) - scale * own).mean())

    lowest = 1.0 if (logits.argmax(1) == labels).all() else 0.05
    found = minimize_scalar(loss, bounds=(np.log(lowest), np.log(20)), method="bounded")
    return float(np.exp(found.x))

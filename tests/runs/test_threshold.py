from statistics import NormalDist

import numpy as np
import pytest

from divaug.base.metrics import softmax
from divaug.base.stats import effective_number, wilson_interval
from divaug.runs.threshold import (
    for_costs,
    for_sensitivity,
    for_specificity,
    operating_point,
    temperature_of,
)


def scores(seed, positives=60, negatives=300):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.beta(4, 2, positives), rng.beta(1, 4, negatives)]).round(2)  # with ties
    return values, np.arange(positives + negatives) < positives


def test_an_operating_point_counts():
    values, positive = scores(0)
    point = operating_point(values, positive, 0.4)
    found = sum(v >= 0.4 for v, p in zip(values, positive, strict=True) if p)
    left = sum(v < 0.4 for v, p in zip(values, positive, strict=True) if not p)
    assert point.sensitivity == (found / 60, *wilson_interval(found / 60, 60))
    assert point.specificity == (left / 300, *wilson_interval(left / 300, 300))
    assert (point.positives, point.negatives) == (60, 300)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("promise", [0.5, 0.8, 0.9])
def test_the_highest_threshold_that_keeps_the_promise(seed, promise):
    values, positive = scores(seed)
    point, holds = for_sensitivity(values, positive, promise)
    assert holds and point.sensitivity[1] >= promise and point.threshold <= 0.5
    higher = [t for t in np.unique(values) if point.threshold < t <= 0.5]
    assert all(operating_point(values, positive, t).sensitivity[1] < promise for t in higher)
    other, holds = for_specificity(values, positive, promise)
    assert holds and other.specificity[1] >= promise
    lower = [t for t in np.unique(values) if t < other.threshold]
    assert all(operating_point(values, positive, t).specificity[1] < promise for t in lower)


def test_a_class_that_is_told_well_keeps_one_half():
    values, positive = np.array([0.99999] * 60 + [0.6] * 5 + [0.001] * 50), np.arange(115) < 65
    point, holds = for_sensitivity(values, positive, 0.8)
    assert holds and point.threshold == 0.5 and point.sensitivity[0] == 1  # not 0.99999, which finds 60 of 65


def test_too_few_images_cannot_promise():
    """All 20 of 20 have a lower bound of 0.84."""
    values, positive = scores(0, positives=20)
    point, holds = for_sensitivity(values, positive, 0.9)
    assert not holds and point.sensitivity[0] == 1 and 0.83 < point.sensitivity[1] < 0.85
    point, holds = for_specificity(*scores(0, positives=20, negatives=10), 0.99)
    assert not holds and point.specificity[0] == 1


def test_the_promise_is_kept_on_new_images():
    """2,000 draws of 100 and new images: the lower bound is one-sided at 0.975, so that it fails in under 5 %."""
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(2000):
        values = np.concatenate([rng.normal(1, 1, 100), rng.normal(-1, 1, 100)])
        point, holds = for_sensitivity(values, np.arange(200) < 100, 0.8)
        assert holds
        kept += 1 - NormalDist(1, 1).cdf(point.threshold) >= 0.8
    assert kept / 2000 > 0.95


def in_groups(rng, groups, size, between):
    """Scores of a class's images, N(0, 1) in all; a share of their variance is between groups."""
    of = np.repeat(np.arange(groups), size)
    return np.sqrt(between) * rng.normal(size=groups)[of] + np.sqrt(1 - between) * rng.normal(size=len(of)), of


def test_the_promise_is_kept_on_new_groups():
    """Twenty groups of ten images, half of the variance between them: on other groups the sensitivity is that of N(0, 1).

    Of 500 trials one in 40 may miss: binomial, at most 12.5 + 4 * 3.5 = 26. Taken for independent, 12 to 14 % miss.
    """
    rng, missed = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(500):
        own, of = in_groups(rng, 20, 10, 0.5)
        values, positive = np.append(own, -9.0), np.arange(201) < 200
        for known in missed:
            groups = np.append(of, 99) if known else None
            point, holds = for_sensitivity(values, positive, 0.8, groups=groups)
            missed[known] += holds and NormalDist().cdf(point.threshold) > 0.2
            assert holds and (point.independent[0] < 190) == known
    assert missed[True] <= 26 < 45 < missed[False]


def test_images_of_one_group_count_as_fewer_on_their_own_side():
    rng = np.random.default_rng(1)
    own, of = in_groups(rng, 30, 8, 0.6)
    others = rng.normal(-1, 1, 300)
    values, positive = np.concatenate([own, others]), np.arange(540) < 240
    groups = np.concatenate([of, 100 + np.arange(300)])  # the others stand for themselves
    point = operating_point(values, positive, 0.0, groups=groups)
    assert point.independent == (effective_number(own, of), 300.0) and 30 < point.independent[0] < 80
    assert point.sensitivity[1:] == wilson_interval(point.sensitivity[0], point.independent[0])
    assert point.specificity[1:] == wilson_interval(point.specificity[0], 300)
    turned = operating_point(-values, ~positive, 0.0, groups=groups)
    assert turned.independent == (300.0, pytest.approx(point.independent[0]))
    assert for_costs(values, positive, 1.0, 1.0, groups=groups).independent == point.independent
    for find, side in ((for_sensitivity, 0), (for_specificity, 1)):
        scored, one = (values, positive) if side == 0 else (-values, ~positive)
        strict, plain = find(scored, one, 0.7, groups=groups)[0], find(scored, one, 0.7)[0]
        assert strict.independent[side] == pytest.approx(point.independent[0]) and plain.independent[side] == 240.0
        assert (strict.threshold < plain.threshold) == (side == 0)  # more is found, or fewer others are called so
        assert wilson_interval((strict.sensitivity, strict.specificity)[side][0], point.independent[0])[0] >= 0.7
    assert not for_sensitivity(values, positive, 0.97, groups=groups)[1] and for_sensitivity(values, positive, 0.97)[1]


@pytest.mark.parametrize(("miss", "false"), [(1, 1), (10, 1), (1, 10)])
def test_costs_are_the_least_over_all_thresholds(miss, false):
    values, positive = scores(1)
    point = for_costs(values, positive, float(miss), float(false))

    def cost(t):
        return miss * (values[positive] < t).sum() + false * (values[~positive] >= t).sum()

    assert cost(point.threshold) == min(cost(t) for t in [*np.unique(values), 2.0])


def test_without_a_mistake_a_model_is_not_made_surer():
    """Every lower temperature would fit better still, down to certainty from twenty images."""
    logits, labels = np.array([[1.0, 0.8], [0.3, 1.3]] * 10), np.array([0, 1] * 10)
    assert temperature_of(logits, labels) == pytest.approx(1.0, abs=0.01)
    assert temperature_of(50 * logits, labels) == pytest.approx(1.0, abs=0.01)
    assert temperature_of(np.vstack([logits, [[0.2, 0.3]]]), np.append(labels, 0)) < 0.9  # one mistake bounds it


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_of_logits_that_are_too_sure(true):
    """Labels drawn at a known temperature: it is found within sampling error."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 5))
    probabilities = softmax(logits / true)
    labels = (rng.random((20_000, 1)) > probabilities.cumsum(1)).sum(1).clip(0, 4)
    assert temperature_of(logits, labels) == pytest.approx(true, rel=0.05)

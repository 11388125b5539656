import numpy as np
import pytest

from divaug.base.metrics import softmax
from divaug.base.stats import wilson_interval
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
        from statistics import NormalDist

        kept += 1 - NormalDist(1, 1).cdf(point.threshold) >= 0.8
    assert kept / 2000 > 0.95


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

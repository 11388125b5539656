import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from divaug.latent.gaps import (
    magnitude_shift,
    matched,
    mean_margin,
    mean_shift,
    predict_left_out,
    profile_distance,
    range_gap,
)

from .golden import bundle, random_bundle


def half_normal(n, seed, d=64):
    return np.abs(np.random.default_rng(seed).normal(size=(n, d)))


def one(statistic, *args, **kwargs):
    return matched({"it": statistic}, *args, **kwargs)["it"]


def test_golden_gap():
    assert range_gap(np.array([[0, 1], [2, 3.0]]), np.array([[-1, 2], [2.5, 2.5]])) == 1.5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 999))
def test_gap_against_a_loop_and_its_bounds(n, m, seed):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(n, 5)), rng.normal(size=(m, 5))
    slow = sum(
        max(0, test[:, d].max() - train[:, d].max()) + max(0, train[:, d].min() - test[:, d].min()) for d in range(5)
    )
    assert range_gap(train, test) == pytest.approx(slow) and slow >= 0
    assert range_gap(np.concatenate([train, test]), test) == 0


def test_the_raw_gap_follows_from_size_alone_and_the_matched_one_does_not():
    # The size bias as it was simulated for this library: 64.0, 19.9 and 2.8 for 50, 500 and 5000 training images of
    # one and the same half-normal distribution with 1000 test images; sd over draws below 2.5.
    for n, expected in ((50, 64.0), (500, 19.9), (5000, 2.8)):
        gaps = [range_gap(half_normal(n, seed), half_normal(1000, seed + 100)) for seed in range(20)]
        assert np.mean(gaps) == pytest.approx(expected, abs=2.0)
    rng = np.random.default_rng(0)
    for n in (50, 500):
        found = one(range_gap, half_normal(n, 1), half_normal(1000, 2), rng, repeats=60)
        assert found.value == pytest.approx(found.null, rel=0.25)


def test_matched_sees_a_real_difference():
    rng = np.random.default_rng(0)
    found = one(mean_shift, half_normal(50, 1), half_normal(400, 2) + 0.5, rng)
    assert found.low > 2 * found.null and found.low <= found.value <= found.high
    equal = one(mean_shift, half_normal(50, 1), half_normal(50, 2), rng)
    assert equal.low == equal.value == equal.high  # equal sizes: nothing to draw
    assert all(np.isnan(v) for v in one(range_gap, half_normal(0, 1), half_normal(5, 2), rng))


def test_quantile_gap_forgets_a_single_outlier():
    train = half_normal(1000, 1)
    test = np.concatenate([half_normal(1000, 2), np.full((1, 64), 50.0)])
    assert range_gap(train, test) > 2000 > 100 > range_gap(train, test, 0.01)


def test_nothing_to_compare_is_undefined():
    nothing = np.empty((0, 3))
    assert np.isnan(range_gap(nothing, np.ones((2, 3)))) and np.isnan(mean_shift(np.ones((2, 3)), nothing))
    assert mean_shift(np.zeros((2, 3)), np.full((2, 3), 2.0)) == pytest.approx(np.sqrt(12))


def test_profiles():
    a, b = np.array([1.0, 3, -2, 0]), np.array([2.0, 2, 0, -9])
    assert profile_distance(a, b) == pytest.approx(0.25) and profile_distance(a, 7 * a) == pytest.approx(0)
    assert profile_distance(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert np.isnan(profile_distance(a, -np.abs(a)))
    assert jensenshannon([0.25, 0.75], [0.5, 0.5], 2) ** 2 <= profile_distance(a, b)  # total variation bounds it


def test_magnitude_is_compared_over_all_members_in_forms_that_are_not_circular():
    train, test = random_bundle(1, n=200), random_bundle(1, n=200)
    same = magnitude_shift(train, test, 0, k=4)
    assert (same.ce, same.fe, same.shape) == pytest.approx((1, 1, 0))
    mean = train.contributions(train.rows(0, "TP")).mean(0)
    assert same.top.tolist() == sorted(range(12), key=lambda d: (-mean[d], d))[:4]
    # A test set whose features are half as large: magnitudes halve, their shape does not change.
    half = random_bundle(1, n=200)
    object.__setattr__(half, "features", half.features / 2)
    found = magnitude_shift(train, half, 0, k=4)
    assert (found.ce, found.fe, found.shape) == pytest.approx((0.5, 0.5, 0))


def test_recognised_against_missed_is_lower_by_construction():
    # Why TP against FN is not offered: with features drawn from one distribution for all images of a class, missed
    # ones still have smaller CE, since that is what they were selected by.
    ours = random_bundle(3, n=2000)
    for c in range(4):
        recognised, missed = (ours.contributions(ours.rows(c, g)).sum(1).mean() for g in ("TP", "FN"))
        assert recognised > missed


def test_a_class_without_pictures_is_undefined():
    found = magnitude_shift(random_bundle(counts=[5, 5, 5, 0]), random_bundle(n=40), 3)
    assert np.isnan(found.ce) and len(found.top) == 0


def test_margins():
    assert mean_margin(bundle(), np.array([0, 3])) == pytest.approx(((4.1 - 0) + (1.3 - 1.75)) / 2)
    assert np.isnan(mean_margin(bundle(weight=None, bias=None, logits=None), np.array([0])))


def test_prediction_of_left_out_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2))
    assert predict_left_out(x, x @ [1.0, -2] + 3) == pytest.approx(1)
    noise = [predict_left_out(rng.normal(size=(12, 2)), rng.normal(size=12)) for _ in range(50)]
    assert np.mean(noise) < 0  # nothing to find: worse than the mean of the others
    assert np.isnan(predict_left_out(x[:4], x[:4, 0])) and np.isnan(predict_left_out(x, np.ones(30)))

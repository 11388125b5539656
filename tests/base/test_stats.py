from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

from divaug.base.stats import holm, sign_flip_p, wilson_interval


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5, width=16), min_size=1, max_size=9))
def test_sign_flips_against_all_patterns_and_scipy(values):
    observed = abs(np.mean(values))
    patterns = [abs(np.mean(np.multiply(signs, values))) for signs in product((1, -1), repeat=len(values))]
    expected = np.mean([p >= observed * (1 - 1e-12) for p in patterns])
    assert sign_flip_p(values) == pytest.approx(expected)
    if len(values) > 2:
        theirs = permutation_test(
            (np.array(values),), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
        )
        assert sign_flip_p(values) == pytest.approx(theirs.pvalue, abs=1e-9)


def test_the_smallest_p_of_so_many_pairs():
    assert [sign_flip_p([1.0] * n) for n in (3, 5, 6, 8, 10)] == [0.25, 0.0625, 0.03125, 2 / 256, 2 / 1024]


def test_many_pairs_are_sampled():
    rng = np.random.default_rng(0)
    assert sign_flip_p((rng.normal(size=40) + 2).tolist()) < 1e-4
    assert sign_flip_p(rng.normal(size=40).tolist(), samples=2000) > 0.01
    assert np.isnan(sign_flip_p([float("nan")])) and sign_flip_p([1.0, float("nan")]) == 1


def test_p_is_uniform_where_nothing_is_to_be_found():
    # With 8 pairs p takes 128 values; P(p <= 0.05) is at most 0.05. 400 draws: within four standard errors.
    rng = np.random.default_rng(1)
    found = np.mean([sign_flip_p(rng.normal(size=8).tolist()) <= 0.05 for _ in range(400)])
    assert found <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


def test_wilson_against_scipy_and_its_definition():
    for n in (1, 4, 40):
        for k in range(n + 1):
            theirs = binomtest(k, n).proportion_ci(method="wilson")
            assert wilson_interval(k / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    # The ends are the shares p with (share - p)^2 = z^2 p (1 - p) / n; so also where share * n is no whole number.
    for end in wilson_interval(1 / 48, 16, confidence=0.9):
        assert (1 / 48 - end) ** 2 == pytest.approx(1.6448536269514722**2 * end * (1 - end) / 16)


def test_holm_against_its_definition():
    ps = [0.01, 0.04, 0.03, 0.005]
    assert holm(ps) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, float("nan"), 0.9])[0] == 1 and np.isnan(holm([float("nan")])[0])

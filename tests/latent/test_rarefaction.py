from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divaug.latent.rarefaction import ceiling, rarefied_number


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.data())
def test_against_binomial_coefficients(n, data):
    incidence = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=8))
    m = data.draw(st.integers(1, n))
    expected = sum(1 - comb(n - f, m) / comb(n, m) for f in incidence)
    assert rarefied_number(np.array(incidence), np.array(n), m) == pytest.approx(expected, abs=1e-9)


def test_against_simulation():
    rng = np.random.default_rng(0)
    pictures = rng.random((40, 12)) < rng.random(12) * 0.3
    draws = [pictures[rng.choice(40, 6, replace=False)].any(0).sum() for _ in range(4000)]
    expected = rarefied_number(pictures.sum(0), np.array(40), 6)
    assert expected == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / np.sqrt(4000))


def test_limits():
    incidence = np.array([[3, 0, 5], [1, 1, 0]])
    n = np.array([5, 2])
    assert rarefied_number(incidence, n, 1) == pytest.approx([8 / 5, 2 / 2])  # the mean size of a set
    assert rarefied_number(incidence, n, 2)[1] == pytest.approx(2)  # m = n: the raw number
    assert np.isnan(rarefied_number(incidence, n, 3)).tolist() == [False, True]  # n < m
    assert ceiling(64, 5, 10) == 50 and ceiling(64, 20, 10) == 64


def test_it_does_not_grow_with_n_as_the_raw_number_does():
    rng = np.random.default_rng(0)
    raw, rarefied = [], []
    for n in (50, 5000):
        sets = np.argsort(-rng.random((n, 64)) * np.linspace(1, 3, 64), axis=1)[:, :10]
        incidence = np.bincount(sets.ravel(), minlength=64)
        raw.append((incidence > 0).sum())
        rarefied.append(rarefied_number(incidence, np.array(n), 5))
    assert raw[1] > raw[0] and rarefied[0] == pytest.approx(rarefied[1], rel=0.03)


def test_precision_for_large_classes():
    # f = 1 of n: the feature is missed with probability (n - m) / n exactly
    for n in (10**4, 10**6):
        assert rarefied_number(np.array([1]), np.array(n), 20) == pytest.approx(20 / n, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rarefied_number(np.array([1]), np.array(3), 0), "m must be >= 1, got 0"),
        (lambda: rarefied_number(np.array([4]), np.array(3), 1), "counted more often"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divaug.latent.rarefaction import (
    ceiling,
    chao2,
    common_sizes,
    rarefaction_curve,
    rarefied_number,
    sample_coverage,
    view_richness,
)


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


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.data())
def test_the_curve_is_the_number_at_every_size(n, data):
    incidence = np.array(data.draw(st.lists(st.integers(0, n), min_size=1, max_size=8)))
    sizes, curve = rarefaction_curve(incidence, n)
    assert sizes[0] == 1 and sizes[-1] == n and (np.diff(sizes) > 0).all()
    expected = [float(rarefied_number(incidence, np.array(n), int(m))) for m in sizes]
    assert curve == pytest.approx(expected, abs=1e-8)
    assert (np.diff(curve) >= -1e-9).all() and curve[-1] == pytest.approx((incidence > 0).sum())


def test_a_long_curve_is_thinned_and_precise():
    incidence = np.array([1, 40, 5000, 0])
    sizes, curve = rarefaction_curve(incidence, 5000)
    assert len(sizes) <= 40
    for m, value in zip(sizes, curve, strict=True):
        assert value == pytest.approx(rarefied_number(incidence, np.array(5000), int(m)), abs=1e-7)


def test_an_empty_class_has_an_empty_curve():
    sizes, curve = rarefaction_curve(np.zeros(3, int), 0)
    assert len(sizes) == len(curve) == 0


def test_chao2_against_scikit_bio():
    # scikit-bio 0.7.4: chao1(COUNTS, bias_corrected=False) = 10.25; Chao2 has the factor (n - 1) / n on what is unseen.
    counts = np.array([7, 3, 1, 0, 1, 2, 0, 5, 1, 2])
    assert chao2(counts, 10**9) == pytest.approx(10, abs=1e-6)  # 10.25, cut at D = 10
    assert chao2(np.append(counts, [0] * 9), 10**9) == pytest.approx(10.25, abs=1e-6)
    assert chao2(np.append(counts, [0] * 9), 9) == pytest.approx(8 + 8 / 9 * 2.25)
    # without features used twice its chao1 is 4 + 3 * 2 / 2 = 7
    assert chao2(np.array([3, 1, 1, 1] + [0] * 9), 10**9) == pytest.approx(7, abs=1e-6)
    assert np.isnan(chao2(counts, 0))


def test_chao2_cannot_help_where_there_are_few_features():
    # All 64 features are in use; five images show 29 of them. Chao2 may estimate at most 64 and says little.
    rng = np.random.default_rng(0)
    few = np.array([(np.argsort(-rng.random((5, 64)), axis=1)[:, :10] == d).sum() for d in range(64)])
    assert (few > 0).sum() < 45 and chao2(few, 5) <= 64


def test_coverage_is_the_share_of_uses_that_belong_to_known_features():
    rng = np.random.default_rng(1)
    truth = rng.dirichlet(np.full(40, 0.5)) * 4  # 40 features, each used by a share of all images
    truth = np.minimum(truth, 1)
    errors = []
    for _ in range(400):
        used = rng.random((30, 40)) < truth
        incidence = used.sum(0)
        true = truth[incidence > 0].sum() / truth.sum()
        errors.append(sample_coverage(incidence, 30) - true)
    # nearly unbiased: the mean error within four standard errors plus the estimator's known small bias
    assert abs(np.mean(errors)) < 4 * np.std(errors) / 20 + 0.005


def test_coverage_at_its_limits():
    assert sample_coverage(np.array([4, 2, 0]), 5) == 1.0  # nothing seen only once
    assert sample_coverage(np.array([1, 1, 1]), 1) == 0.0
    assert np.isnan(sample_coverage(np.zeros(3, int), 5))
    assert 0 < sample_coverage(np.array([1, 1, 3]), 4) < 1


def test_common_sizes():
    assert common_sizes(np.array([100, 7, 0, 12])) == [5, 7, 20]
    assert common_sizes(np.array([100, 20]), (5,)) == [5, 20]


def slow_between(sets, images, m):
    """All m-subsets of images, all choices of one view each."""
    groups = [np.flatnonzero(images == i) for i in np.unique(images)]
    values = [
        np.mean([sets[list(views)].any(0).sum() for views in product(*chosen)]) for chosen in combinations(groups, m)
    ]
    return np.mean(values)


def test_richness_of_views_within_and_between_pictures():
    rng = np.random.default_rng(0)
    images = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    sets = rng.random((8, 6)) < 0.4
    for m in (1, 2, 3):
        within, between = view_richness(sets, images, m)
        assert between == pytest.approx(slow_between(sets, images, m))
        slow = [
            np.mean([sets[list(views)].any(0).sum() for views in combinations(rows, m)])
            for rows in ([0, 1, 2], [3, 4], [5], [6, 7])
            if len(rows) >= m
        ]
        assert within == pytest.approx(np.mean(slow))


def test_views_of_one_picture_are_not_pictures():
    # Twenty views each of five images that hardly change: rarefied over rows they look as rich as the images are,
    # within one image they are poor.
    rng = np.random.default_rng(0)
    own = rng.random((5, 30)) < 0.2
    images = np.repeat(np.arange(5), 20)
    within, between = view_richness(own[images], images, 5)
    assert within == pytest.approx(own.sum(1).mean()) and between == pytest.approx(own.any(0).sum())
    assert np.isnan(view_richness(own[images], images, 6)[1]) and np.isnan(view_richness(own[images], images, 21)[0])


def test_saturation():
    # Two distributions over 64 features, one with a third less spread among them: told apart in 5 images, both at
    # the ceiling in 50.
    rng = np.random.default_rng(0)
    found = {}
    for name, slope in (("even", 1.0), ("uneven", 1.4)):
        sets = np.argsort(-rng.random((1000, 64)) * np.linspace(1, slope, 64), axis=1)[:, :10]
        incidence = np.bincount(sets.ravel(), minlength=64)
        found[name] = [rarefied_number(incidence, np.array(1000), m) / ceiling(64, m, 10) for m in (5, 50)]
    assert found["even"][1] > 0.9 and found["uneven"][1] > 0.9
    assert found["even"][0] - found["uneven"][0] > 0.03

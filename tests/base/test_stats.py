from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, f_oneway, nct, norm, permutation_test, rankdata, t, ttest_1samp

from divaug.base.stats import (
    effective_number,
    equivalence_p,
    holm,
    runs_needed,
    sign_flip_interval,
    sign_flip_p,
    t_interval,
    t_p,
    wilson_interval,
)


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


def test_the_effective_number_against_scipys_analysis_of_variance():
    """r from F of one-way analysis of variance: (F - 1) / (F - 1 + usual size); groups of unequal size, ties."""
    rng = np.random.default_rng(0)
    for between in (0.2, 0.6):
        sizes = rng.integers(1, 12, 15)
        of = np.repeat(np.arange(15), sizes)
        n, values = len(of), (np.sqrt(between) * rng.normal(size=15)[of] + rng.normal(size=len(of))).round(1)
        scores = norm.ppf((rankdata(values) - 0.5) / n)
        f = f_oneway(*(scores[of == g] for g in range(15))).statistic
        size = sum(k * k for k in sizes.tolist()) / n
        alike = max(0.0, (f - 1) / (f - 1 + (n - size) / 14))
        expected = n / (1 + (size - 1) * alike)
        assert effective_number(values, of) == pytest.approx(expected) and expected < 0.95 * n
        order = rng.permutation(n)  # neither order, names nor scale matter
        names = np.array([f"patient {g}" for g in of])
        assert effective_number(np.exp(values)[order], names[order]) == pytest.approx(expected)


def test_the_effective_number_of_known_correlations():
    """Thousand groups of six: r is known to 0.02, so the number within 8 %."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(1000), 6)
    for between in (0.0, 0.3, 0.7):
        values = np.sqrt(between) * rng.normal(size=1000)[of] + np.sqrt(1 - between) * rng.normal(size=6000)
        assert effective_number(values, of) == pytest.approx(6000 / (1 + 5 * between), rel=0.08)
    assert effective_number(of.astype(float), of) == pytest.approx(1000)
    hits = (np.sqrt(0.7) * rng.normal(size=1000)[of] + np.sqrt(0.3) * rng.normal(size=6000)) > 1
    assert 1500 < effective_number(hits, of) < 2600  # of shares, where r is smaller


def test_the_effective_number_where_nothing_can_be_told():
    assert effective_number([0.3, 0.1, 0.2], None) == effective_number([0.3, 0.1, 0.2], ["a", "b", "c"]) == 3.0
    assert effective_number([0.3, 0.1, 0.2], ["a", "a", "a"]) == 1.0  # one group
    assert effective_number([1.0] * 6, ["a", "a", "a", "b", "b", "c"]) == pytest.approx(36 / 14)  # all alike
    assert effective_number([0.5], ["a"]) == 1.0
    for values, groups in (([0.1, 0.2], ["a", None]), ([0.1, 0.2], ["a", float("nan")]), ([0.1, np.nan], ["a", "a"])):
        with pytest.raises(ValueError, match="must be known; give an image without a group one of its own"):
            effective_number(values, groups)


def test_holm_against_its_definition():
    ps = [0.01, 0.04, 0.03, 0.005]
    assert holm(ps) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, float("nan"), 0.9])[0] == 1 and np.isnan(holm([float("nan")])[0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5, width=16), min_size=6, max_size=9, unique=True), st.sampled_from([0.9, 0.95]))
def test_the_sign_flip_interval_holds_what_the_test_does_not_reject(values, confidence):
    low, high = sign_flip_interval([*values, float("nan")], confidence=confidence)
    assert low <= np.mean(values) <= high
    step = 1e-6
    for end, outside in ((low, -step), (high, step)):
        assert sign_flip_p([v - end - outside for v in values]) <= 1 - confidence + 1e-12
        assert sign_flip_p([v - end + outside for v in values]) > 1 - confidence


def test_sign_flip_intervals_of_few_and_of_many():
    assert sign_flip_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == (-np.inf, np.inf)  # the smallest p of five is 0.0625
    assert sign_flip_interval([1.0, 2.0, 3.0, 4.0, 5.0, 9.0]) == (1.0, 9.0)
    assert all(np.isnan(v) for v in sign_flip_interval([]))
    values = np.random.default_rng(0).normal(1.0, 1.0, 40)
    test = ttest_1samp(values, 0.0).confidence_interval()
    # Normal values: both intervals estimate the same; sampled ends lie within a tenth of their half width.
    assert sign_flip_interval(values.tolist()) == pytest.approx(tuple(test), abs=0.1 * (test.high - test.low) / 2)


def test_sign_flip_intervals_cover_where_values_are_symmetric():
    # Uniform values, n = 8: exact coverage is 1 - 2 * floor(0.025 * 256) / 256 = 0.953; 600 draws, four standard errors.
    rng = np.random.default_rng(2)
    ends = np.array([sign_flip_interval(rng.uniform(-1, 1, 8).tolist()) for _ in range(600)])
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert abs(covered - (1 - 12 / 256)) <= 4 * np.sqrt(0.047 * 0.953 / 600)


def test_t_and_equivalence_against_scipy():
    values = [0.3, -0.2, 0.5, 0.1, 0.0]
    assert t_p([*values, float("nan")]) == pytest.approx(ttest_1samp(values, 0.0).pvalue)
    both = [ttest_1samp(values, m, alternative=a).pvalue for m, a in ((-0.6, "greater"), (0.6, "less"))]
    assert equivalence_p(values, 0.6) == pytest.approx(max(both)) == equivalence_p([-v for v in values], 0.6)
    assert equivalence_p([-v for v in (5.0, 5.1, 5.2)], 1.0) > 0.99  # far on the other side
    low, high = ttest_1samp(values, 0.0).confidence_interval(0.9)
    for margin in (high - 1e-6, high + 1e-6):  # at 0.05 it is the interval of 90 %, here with the farther end high
        assert high > -low and (equivalence_p(values, margin) < 0.05) == (margin > high)
    assert all(
        np.isnan(f) for f in (t_p([1.0]), t_p([1.0, 1.0]), equivalence_p([1.0], 1.0), equivalence_p([0.0, 0.0], 1.0))
    )
    with pytest.raises(ValueError, match="margin must be above 0"):
        equivalence_p(values, 0.0)


def test_runs_that_overlap_tell_less():
    """Nadeau and Bengio's variance, (1/n + overlap) s^2, in the interval, both tests and the power."""
    values, overlap = [0.3, -0.2, 0.5, 0.1, 0.9], 0.25
    error = np.std(values, ddof=1) * np.sqrt(1 / 5 + overlap)
    half = t.ppf(0.975, 4) * error
    assert t_interval(values, overlap=overlap) == pytest.approx((np.mean(values) - half, np.mean(values) + half))
    assert t_p(values, overlap=overlap) == pytest.approx(2 * t.sf(np.mean(values) / error, 4))
    assert equivalence_p(values, 2.0, overlap=overlap) == pytest.approx(t.sf((2.0 - np.mean(values)) / error, 4))

    def power(n):
        return nct.sf(t.ppf(0.975, n - 1), n - 1, 1.5 / np.sqrt(1 / n + overlap))

    assert runs_needed(1.0, 1.5, overlap=overlap) == next(n for n in range(2, 500) if power(n) >= 0.8)
    assert runs_needed(1.0, 1.0, overlap=overlap) == 10_000  # 1 / sqrt(overlap) standard errors at most: never 0.8


def test_splits_of_one_set_are_kept_to_their_level():
    """Two rules that are alike, over new splits of 200 images each time: 5 % may be found to differ.

    Of 400 trials at 0.05 more than 37 have a chance below 1e-4 (binomial). The numbers stand in the CHANGELOG.
    """
    rng = np.random.default_rng(0)
    found = {(splits, overlap): 0 for splits in (5, 10) for overlap in (0.0, 0.25)}
    for _ in range(400):
        # The difference of two rules that are fitted to the training images: noise of the images that they share.
        x, y = rng.normal(0, 1, (2, 200))
        differences = []
        for _ in range(10):
            order = rng.permutation(200)
            train, test = order[:160], order[160:]
            differences.append(float(np.mean(np.abs(y[test] - x[train].mean()) - np.abs(x[test] - y[train].mean()))))
        for splits, overlap in found:
            found[splits, overlap] += t_p(differences[:splits], overlap=overlap) < 0.05
    assert max(found[5, 0.25], found[10, 0.25]) <= 37 < min(found[5, 0.0], found[10, 0.0])
    assert found == {(5, 0.0): 57, (5, 0.25): 26, (10, 0.0): 117, (10, 0.25): 19}


@pytest.mark.parametrize("sd", [0.02, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_runs_needed_are_the_first_whose_t_test_has_the_power(sd, power):
    def has(n):
        return nct.sf(t.ppf(0.975, n - 1), n - 1, 0.7 * np.sqrt(n) / sd) >= power

    assert runs_needed(sd, 0.7, power=power) == next(n for n in range(2, 500) if has(n))

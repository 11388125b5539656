"""What a comparison concludes from paired differences, and what is no result."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from divaug.base.stats import runs_needed, t_interval
from divaug.report.conclusions import difference


def test_t_interval_is_scipys():
    values = [1.0, 2.5, -0.5, 4.0]
    wanted = reference.t.interval(0.95, 3, np.mean(values), reference.sem(values))
    assert t_interval([*values, math.nan]) == pytest.approx(wanted)
    assert all(math.isnan(v) for v in t_interval([1.0]))


def test_runs_needed_by_simulation():
    n = runs_needed(1.0, 1.0)
    assert n == 10  # tables of the paired t test: 0.80 power, two-sided 0.05, effect of one standard deviation
    drawn = np.random.default_rng(0).normal(1.0, 1.0, (20_000, n))
    low = np.array([reference.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05]).mean()
    assert low + 3 * math.sqrt(0.16 / 20_000) >= 0.80 and low < 0.85  # three standard errors of a share of 0.8
    fewer = reference.ttest_1samp(drawn[:, : n - 1], 0.0, axis=1).pvalue < 0.05
    assert fewer.mean() < 0.80
    assert runs_needed(0.0, 1.0) == 2 and runs_needed(1e9, 1.0) == 10_000 and runs_needed(2.0, 2.0) == n


@pytest.mark.parametrize(
    ("paired", "wanted"),
    [
        ([2.0, 2.5, 1.5, 2.0], "+2.0 [+1.4, +2.6], n = 4: better; 1 and 2 points need about 4 and 3 runs"),
        ([-2.0, -2.5, -1.5, -2.0], "-2.0 [-2.6, -1.4], n = 4: worse"),
        ([2.0, -2.5, 1.5, -1.0], "n = 4: these runs cannot tell; 1 and 2 points need about"),
        ([2.0], "+2.0 in one run each: these runs cannot tell; give --seeds 0-4"),
        ([math.nan], "no seed in common: these runs cannot tell"),
        ([0.0, 0.0], "+0.0 in all 2 runs, without any spread: these runs cannot tell"),
        ([], "no seed in common: these runs cannot tell"),
    ],
)
def test_a_difference_in_words(paired, wanted):
    assert wanted in difference(paired)

import numpy as np
import pandas as pd
import pytest

from divaug.base.stats import t_interval
from divaug.study.exchange.analysis import FACTORIAL, Ratio, factorial, fieller, side, units, word
from divaug.study.exchange.plan import Words

WORDS = Words(primary=("one", "two"))


def test_fieller_holds_the_ratios_that_a_t_test_does_not_refuse():
    rng = np.random.default_rng(0)
    x = 5 + rng.normal(size=9)
    y = 0.4 * x + rng.normal(size=9)
    found = fieller(y, x, 0.975)
    assert found.value == pytest.approx(y.mean() / x.mean())
    for ratio, inside in ((found.low + 1e-6, True), (found.low - 1e-6, False), (found.high - 1e-6, True),
                          (found.high + 1e-6, False)):  # fmt: skip
        low, high = t_interval((y - ratio * x).tolist(), confidence=0.975)
        assert (low <= 0 <= high) is inside


def test_fieller_is_unbounded_exactly_where_the_denominator_may_be_zero():
    rng = np.random.default_rng(1)
    for shift in np.linspace(0, 2, 41):
        x, y = shift + rng.normal(size=8), rng.normal(size=8)
        low, high = t_interval(x.tolist(), confidence=0.95)
        assert np.isinf(fieller(y, x, 0.95).high) == (low <= 0 <= high)


def test_fieller_covers():
    """2,000 intervals at 0.95 of a true ratio of 0.3; below 0.935 or above 0.965 has a chance under 0.3 % (3 sd)."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(2000):
        x = 8 + 2 * rng.normal(size=12)
        y = 0.3 * 8 + rng.normal(size=12) + 0.5 * (x - 8)
        found = fieller(y, x, 0.95)
        covered += found.low <= 0.3 <= found.high
    assert 0.935 <= covered / 2000 <= 0.965


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.1, 0.1, "negligible"), (-0.14, 0.149, "negligible"), (-0.3, -0.2, "harmful"),
        (-0.1, -0.01, "negligible"),  # read before harmful
        (0.51, 0.9, "more than number"), (0.55, 0.6, "more than number"),  # read before comparable
        (0.34, 0.66, "comparable with number"), (0.34, 0.42, "comparable with number"), (0.4, 0.7, "at least comparable"),
        (0.05, 0.45, "matters, less than number"), (0.01, 0.2, "matters, less than number"),
        (-0.1, 0.3, "not decided"), (0.1, 0.6, "not decided"), (-0.2, 0.9, "not decided"),
    ],
)  # fmt: skip
def test_words_are_read_in_order(low, high, said):
    assert word(Ratio((low + high) / 2, low, high), (2.0, 9.0), WORDS) == said


@pytest.mark.parametrize("floor", [-1.0, 0.0, 0.99, float("nan")])
def test_nothing_is_said_where_number_and_breadth_together_are_worth_less_than_a_point(floor):
    assert word(Ratio(0.5, 0.45, 0.55), (floor, 9.0), WORDS) == "not measurable"


def test_an_unbounded_interval_is_never_judged():
    """Where Fieller's interval is unbounded, the lower bound of D - A at the same level is below 0."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        arms = {name: rng.normal(0, 3, 6) for name in FACTORIAL}
        found = factorial(arms, WORDS)
        if np.isinf(found.phi.high):
            assert found.verdict == "not measurable"


def test_narrowing_an_interval_never_turns_the_side():
    for low, high in ((0.2, 0.45), (0.55, 0.8), (0.3, 0.6)):
        outer = side(Ratio(0.5, low, high), WORDS)
        for a in np.linspace(low, high, 7):
            for b in np.linspace(a, high, 7):
                inner = side(Ratio((a + b) / 2, a, b), WORDS)
                assert outer == "open" or inner == outer


def test_effects_of_a_factorial_are_those_of_a_slow_sum():
    rng = np.random.default_rng(4)
    arms = {name: rng.normal(50, 2, 8) for name in FACTORIAL}
    found = factorial(arms, WORDS)
    for i in range(8):
        a, b, c, d = (arms[name][i] for name in FACTORIAL)
        assert found.breadth[i] == pytest.approx((b - a + d - c) / 2)
        assert found.number[i] == pytest.approx((c - a + d - b) / 2)
        assert found.gain[i] == pytest.approx(found.breadth[i] + found.number[i])
    assert found.interval == t_interval((arms["D"] - arms["A"]).tolist(), confidence=0.975)


def test_the_level_is_divided_among_the_primary_rows():
    assert Words(primary=("a", "b")).confidence == pytest.approx(0.975)
    assert Words(primary=("a",)).confidence == Words().confidence == pytest.approx(0.95)
    rng = np.random.default_rng(5)
    arms = {name: rng.normal(mean, 1, 8) for name, mean in zip(FACTORIAL, (40, 43, 45, 50), strict=True)}
    one, two = (factorial(arms, Words(primary=p)).phi for p in (("a",), ("a", "b")))
    assert two.low < one.low < one.high < two.high


def table():
    rows = [
        {"arm": arm, "cut": cut, "tail_prior_corrected": 0.1 * i + 0.01 * cut, "coverage": 0.5}
        for cut in (10, 11, 12, 13)
        for i, arm in enumerate(FACTORIAL)
    ]
    return pd.DataFrame(rows)


def test_units_are_pairs_of_complementary_cuts_or_cuts():
    pairs = units(table(), "tail_prior_corrected", FACTORIAL, paired=True)
    np.testing.assert_allclose(pairs["B"], [10 + 10.5, 10 + 12.5])
    single = units(table(), "tail_prior_corrected", FACTORIAL, paired=False)
    np.testing.assert_allclose(single["B"], [20, 21, 22, 23])
    assert units(table(), "coverage", FACTORIAL, paired=False)["A"].tolist() == [0.5] * 4


def test_a_unit_needs_all_arms_in_all_its_cuts():
    missing = table().drop(index=5)  # arm B of cut 11
    assert len(units(missing, "tail_prior_corrected", FACTORIAL, paired=True)["A"]) == 1
    assert len(units(missing, "tail_prior_corrected", FACTORIAL, paired=False)["A"]) == 3
    assert len(units(missing, "tail_prior_corrected", ("A", "D"), paired=True)["A"]) == 2

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from divaug.study.exchange.plan import Spreads, Words, read_plan
from divaug.study.exchange.power import power_table, simulate

WORDS = Words(primary=("one", "two"))
SHARP = Spreads("sharp", 10.0, dict.fromkeys("ABCD", 0.1))


@pytest.mark.parametrize(
    ("phi", "said"),
    [(0.0, "negligible"), (0.3, "matters, less than number"), (0.5, "comparable with number"), (0.8, "more than number"),
     (-0.4, "harmful")],
)  # fmt: skip
def test_without_noise_the_truth_is_said(phi, said):
    found = simulate(phi, 12, SHARP, WORDS, repetitions=20, rng=np.random.default_rng(0))
    assert found == {said: 20}


def test_a_null_is_not_measurable():
    null = Spreads("null", 0.0, dict.fromkeys("ABCD", 2.0))
    found = simulate(0.5, 12, null, WORDS, repetitions=200, rng=np.random.default_rng(0))
    assert found["not measurable"] >= 195  # its lower bound reaches 1 point in under 1 % of studies


@pytest.mark.parametrize("name", "ABCD")
def test_every_arm_scatters_by_its_own_spread(name):
    """Only one arm scatters: the verdict on a phi at 0.3 becomes uncertain, whichever arm it is."""
    run = dict.fromkeys("ABCD", 0.05) | {name: 20.0}
    found = simulate(0.3, 6, Spreads("one", 10.0, run), WORDS, repetitions=50, rng=np.random.default_rng(0))
    assert found["matters, less than number"] < 25


def test_classes_do_not_matter_to_pairs_of_complementary_cuts():
    calm = simulate(0.3, 12, SHARP, WORDS, repetitions=50, rng=np.random.default_rng(0))
    wild = Spreads("wild", 10.0, dict.fromkeys("ABCD", 0.1), luck=30.0, classes=30.0)
    assert simulate(0.3, 12, wild, WORDS, repetitions=50, rng=np.random.default_rng(0)) == calm


def test_the_table_has_a_row_for_every_case_and_shares_add_up():
    table = power_table([SHARP], (16, 24), WORDS, repetitions=20, phis=(0.0, 0.5))
    assert table[["cuts", "phi"]].to_numpy().tolist() == [[16, 0.0], [16, 0.5], [24, 0.0], [24, 0.5]]
    said = table.drop(columns=["case", "gain", "cuts", "phi"])
    np.testing.assert_allclose(said.sum(axis=1), 1)


@pytest.mark.slow
def test_the_committed_power_table_is_what_the_analysis_would_say():
    """Simulated anew with another seed. Two shares of 2,000 differ by over 0.062 with a chance of 1e-4 (3.9 sd)."""
    folder = Path(__file__).parents[3] / "recipes" / "study"
    plan = read_plan(folder / "breadth.toml")
    committed = pd.read_csv(folder / "breadth_power.csv", keep_default_na=False)  # a case is called null
    assert set(committed["phi"]) >= {0.0, 0.15, 0.3, 0.5, 0.7}
    assert {spreads.name for spreads in plan.power} == set(committed["case"])
    run = sorted({len(design.cuts) for design in plan.designs if design.label in plan.words.primary})
    assert set(run) <= set(committed["cuts"])
    phis = (0.0, 0.15, 0.3, 0.5, 0.7)
    again = power_table(plan.power, run, plan.words, repetitions=2000, seed=1, phis=phis)
    keys = ["case", "cuts", "phi"]
    both = again.merge(committed, on=keys, suffixes=("", " committed"))
    assert len(both) == len(again)
    for word in [name for name in again if name not in (*keys, "gain")]:
        assert (both[word] - both[f"{word} committed"]).abs().max() < 0.062, word

"""Contrasts that a plan names: differences and exchange rates of arms' means."""

import numpy as np
import pandas as pd
import pytest

from divaug.base.errors import ConfigError
from divaug.base.stats import t_interval
from divaug.study.exchange.analysis import fieller
from divaug.study.exchange.contrasts import contrasts_of
from divaug.study.exchange.plan import read_plan

PLAN = """
title = "augmentation"
analysis = 1
[[design]]
dataset = "digits"
name = "balanced"
cuts = "0-7"
n = 100
kinds = 16
steps = 100
arms.half = { number = 0.5 }
arms.one = { number = 1.0 }
arms.four = { number = 4.0 }
arms.cutmix = { number = 1.0, method = "cutmix" }
arms.narrow = { number = 1.0, breadth = 0.5 }
contrasts = [
  { name = "cutmix", plus = ["cutmix"], minus = ["one"] },
  { name = "cutmix, in doublings", plus = ["cutmix"], minus = ["one"], per_plus = ["four"], per_minus = ["half"], per = 3.0 },
  { name = "of two", plus = ["four", "cutmix"], minus = ["half", "one"] },
  { name = "level", plus = ["narrow"] },
]
"""
MEANS = {"half": 0.44, "one": 0.50, "four": 0.62, "cutmix": 0.53, "narrow": 0.46}


def test_differences_and_exchange_rates(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    plan = read_plan(tmp_path / "plan.toml")
    rng = np.random.default_rng(0)
    values = {arm: mean + 0.005 * rng.normal(size=8) for arm, mean in MEANS.items()}
    rows = [
        {"dataset": "digits", "design": "balanced", "variant": "main", "arm": arm, "cut": cut, "status": "ok",
         "prereg": plan.prereg, "balanced_accuracy": values[arm][cut], "train_recall": 0.95}
        for arm in MEANS for cut in range(8)
    ]  # fmt: skip
    found = contrasts_of(plan, plan.designs[0], pd.DataFrame(rows)).set_index("contrast")
    gain = 100 * (values["cutmix"] - values["one"])
    assert found.loc["cutmix", ["effect", "n"]].tolist() == [pytest.approx(gain.mean()), 8]
    assert found.loc["cutmix", ["lo", "hi"]].tolist() == pytest.approx(list(t_interval(gain.tolist())))
    rate = fieller(gain, 100 * (values["four"] - values["half"]) / 3, 0.95)  # 3 points of 6 for a doubling
    assert rate.value == pytest.approx(0.5, abs=0.1)
    assert found.loc["cutmix, in doublings", ["effect", "lo", "hi"]].tolist() == pytest.approx(
        [rate.value, rate.low, rate.high]
    )
    assert found.loc["of two", "effect"] == pytest.approx(100 * (0.575 - 0.47), abs=0.6)
    assert found.loc["level", "effect"] == pytest.approx(46, abs=0.6)
    assert set(found["verdict"]) == {""}
    unfitted = pd.DataFrame(rows)
    unfitted.loc[unfitted["arm"] == "four", "train_recall"] = 0.5
    marked = contrasts_of(plan, plan.designs[0], unfitted[unfitted["cut"] < 7].copy()).set_index("contrast")["verdict"]
    assert marked["cutmix"] == "unfinished: 7 of 8 units"
    early = contrasts_of(plan, plan.designs[0], unfitted[unfitted["cut"] < 7].copy())
    assert early[["effect", "lo", "hi", "p"]].isna().all(axis=None)  # nothing is looked at before all cuts are in
    # An arm that was refused in some cuts finishes no contrast without it, and one with it all the sooner.
    table = pd.DataFrame(rows)
    lost = (table["arm"] == "narrow") & (table["cut"] > 4)
    refused = table.assign(status=table["status"].where(~lost, "refused"))
    marked = contrasts_of(plan, plan.designs[0], refused[refused["cut"] < 7].copy()).set_index("contrast")["verdict"]
    assert marked["cutmix"] == "unfinished: 7 of 8 units" and marked["level"] == "unfinished: 7 of 8 units"
    marked = contrasts_of(plan, plan.designs[0], refused).set_index("contrast")
    assert marked.loc["level", ["n", "verdict"]].tolist() == [5, ""] and marked.loc["cutmix", "n"] == 8
    marked = contrasts_of(plan, plan.designs[0], unfitted).set_index("contrast")["verdict"]
    assert marked["cutmix"] == "" and "arm four is not fitted" in marked["cutmix, in doublings"]


def test_a_contrast_names_arms_that_exist(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN.replace('minus = ["one"] }', 'minus = ["ome"] }', 1))
    with pytest.raises(ConfigError, match="contrast 'cutmix' has no arm 'ome'"):
        read_plan(tmp_path / "plan.toml")

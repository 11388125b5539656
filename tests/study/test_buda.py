"""The repetition of Buda et al.: what is trained, what is judged, and verdicts that can come out every way."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from divaug.base.errors import DivaugError
from divaug.config.layers import method_label
from divaug.data.longtail import profile_counts
from divaug.recipes import buda as recipe
from divaug.report import results
from divaug.study import buda
from divaug.study.buda import CLAIMS, THRESHOLDED, Cell, arms_of, cells_of, differences, judge, scores_of


def test_every_arm_of_a_cell_is_what_its_name_says():
    cell = Cell("fashion_mnist", "linear", 50)
    arms = arms_of(cell, 2)
    assert list(arms) == ["erm", "ros", "rus", "two_phase", "ros_half", "rus_part", "balanced"]
    assert {c.seed for c in arms.values()} == {2} and {c.dataset for c in arms.values()} == {"fashion_mnist"}
    cut = {(c.profile, c.imbalance_factor) for name, c in arms.items() if name != "balanced"}
    assert cut == {("linear", 50.0)} and {c.pixel.name for c in arms.values()} == {"none"}
    assert arms["ros_half"].sampler.options == {"at_least": 500} and arms["ros"].sampler.options == {}
    assert arms["rus_part"].sampler.name == "undersample" and arms["rus_part"].sampler.options == {"ratio": 7.1}
    assert len(arms["two_phase"].phases) == 1 and arms["erm"].sampler.name == "uniform"
    total = profile_counts("linear", np.full(10, 1000), 50.0, np.arange(10)).sum()
    assert sum(arms["balanced"].counts) == total - total % 10 and len(set(arms["balanced"].counts)) == 1
    assert len({method_label(c) for c in arms.values()}) == 6  # erm and balanced, which have other cuts
    assert [str(c) for c in cells_of(["a", "b"], (3,))] == ["a step 3", "a linear 3", "b step 3", "b linear 3"]


def scores(effects, seeds=4, cells=3, noise=0.05):
    """Return scores in which every arm lies its effect above 90, in each cell of each cut."""
    rng, rows = np.random.default_rng(0), []
    arms = [
        "balanced",
        "erm",
        "ros",
        "rus",
        "two_phase",
        "ros_half",
        "rus_part",
        "erm" + THRESHOLDED,
        "ros" + THRESHOLDED,
    ]
    for cell in range(cells):
        for seed in range(seeds):
            of_cut = rng.normal(0, 3)  # of all arms alike: pairing takes it away
            for arm in arms:
                effect = effects.get(arm, 0.0)
                effect = effect[cell] if isinstance(effect, list) else effect
                value = 90 + of_cut + effect + rng.normal(0, noise)
                thresholded = arm.endswith(THRESHOLDED)
                auc = math.nan if thresholded else value
                rows.append({"cell": f"c{cell}", "arm": arm, "seed": seed, "auc": auc, "acc": value, "fitted": 99.0})
    return pd.DataFrame(rows)


AS_CLAIMED = {
    "balanced": 4.0, "ros": 2.0, "ros_half": 1.0, "two_phase": 0.5, "rus": -3.0, "rus_part": -1.0,
    "erm" + THRESHOLDED: 3.0, "ros" + THRESHOLDED: 3.0,
}  # fmt: skip


def verdicts(table):
    return [verdict for _, verdict in judge(table)[1]]


def test_every_claim_can_hold_fail_and_stay_open():
    assert verdicts(scores(AS_CLAIMED)) == ["holds"] * 5
    opposite = {arm: -effect for arm, effect in AS_CLAIMED.items()}
    assert verdicts(scores(opposite)) == ["does not hold"] * 5
    noisy = verdicts(scores(AS_CLAIMED, noise=40.0))
    assert noisy == ["these runs cannot tell"] * 5


def test_a_loss_within_the_margin_is_no_loss_and_one_contrast_can_spoil_a_claim():
    small = verdicts(scores({**AS_CLAIMED, "ros": -0.2}))
    assert small[3] == "holds" and small[1] == "does not hold"  # overfitting: 0.2 is below the margin of 0.5
    assert verdicts(scores({**AS_CLAIMED, "ros": -0.9}))[3] == "does not hold"
    part = verdicts(scores({**AS_CLAIMED, "rus_part": -5.0}))
    assert part[2] == "does not hold" and part[:2] == ["holds", "holds"]
    mixed = scores({**AS_CLAIMED, "balanced": [-2.0, 8.0, 8.0]})
    assert verdicts(mixed)[0] == "holds, but not everywhere"


def test_the_numbers_of_a_contrast_are_paired_means_over_cells():
    table = scores(AS_CLAIMED)
    found = differences(table, "ros", "erm", "auc")
    assert found.shape == (4, 3)
    one = table[(table["cell"] == "c1") & (table["seed"] == 2)].set_index("arm")["auc"]
    assert found.loc[2, "c1"] == pytest.approx(one["ros"] - one["erm"])
    contrasts, _ = judge(table)
    row = contrasts[(contrasts["ours"] == "ros") & (contrasts["theirs"] == "erm") & (contrasts["claim"] == 2)].iloc[0]
    assert row["difference"] == pytest.approx(found.to_numpy().mean()) and row["n"] == 4 and row["score"] == "auc"
    same = contrasts[contrasts["claim"] == 4].iloc[0]  # the margin moves the test, not what is shown
    assert same["difference"] == pytest.approx(row["difference"]) and same["low"] == pytest.approx(row["low"])
    without = table[~((table["arm"] == "erm") & (table["seed"] == 3) & (table["cell"] == "c0"))]
    assert len(differences(without, "ros", "erm", "auc")) == 3  # a cut that is not complete is left out
    assert not len(differences(table[table["arm"] != "erm"], "ros", "erm", "auc"))
    half = table[~((table["arm"] == "erm") & (table["cell"] == "c0"))]  # a cell that is not there yet
    assert differences(half, "ros", "erm", "auc").shape == (4, 2)
    assert judge(half)[0].query("ours == 'ros' and theirs == 'erm'")["cells"].tolist() == [2, 2]
    assert [score for claim in CLAIMS for *_, score in claim.contrasts] == ["auc"] * 7 + ["acc"]


def test_the_command_trains_judges_and_continues(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(buda, "PROFILES", ("step",))
    assert recipe.main(["--report", "--smoke"]) == 1 and "has no row of these runs" in capsys.readouterr().err
    assert recipe.main(["--smoke", "--seeds", "0", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.count("these runs cannot tell") == 5 and "erm with thresholds - erm, acc: " in said
    file = Path("runs/buda_smoke.csv")
    rows = results.read(file)
    assert len(rows) == 9 and rows["method"].str.endswith(THRESHOLDED).sum() == 2
    cells = cells_of(["digits"], (10,))
    found = scores_of(rows, cells, [0], **recipe.SMOKE)
    assert len(found) == 9 and found["auc"].notna().sum() == 7 and found["acc"].notna().all()
    plain = rows[rows["method"] == "ros+pixel=none"].iloc[0]
    assert found[found["arm"] == "ros"].iloc[0][["auc", "acc"]].tolist() == pytest.approx(
        [100 * plain["test_roc_auc"], 100 * plain["test_acc"]]
    )
    assert {p.name for p in Path("runs/buda_smoke_report").iterdir()} == {
        "report.md", "report.html", "cells.png", "contrasts.csv",
    }  # fmt: skip
    page = Path("runs/buda_smoke_report/report.md").read_text()
    assert "Oversampling dominates" in page and "Not trained to the end" in page and "digits step 10" in page
    twice = pd.concat([rows, rows.assign(data="0therdat")])
    with pytest.raises(DivaugError, match="has rows of other images"):
        scores_of(twice, cells, [0], **recipe.SMOKE)
    twice[twice["data"] == "0therdat"].to_csv(file, index=False)  # rows of other images are no finished runs
    wanted = []
    monkeypatch.setattr(buda, "run_tasks", lambda tasks, **more: wanted.extend(tasks))
    assert recipe.main(["--smoke", "--seeds", "0", "--quiet"]) == 0 and len(wanted) == 7
    rows.to_csv(file, index=False)
    wanted.clear()
    assert recipe.main(["--smoke", "--seeds", "0", "--quiet"]) == 0 and not wanted
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))  # the last row is lost
    monkeypatch.setattr(buda, "_train", lambda config, afterwards: pytest.fail("trained again"))
    assert recipe.main(["--smoke", "--seeds", "0", "--report", "--quiet"]) == 0
    assert recipe.main(["--datasets", "cifar10,cifar10"]) == 2 and recipe.main(["--jobs", "0"]) == 2

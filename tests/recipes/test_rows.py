"""Every committed row of results is whole, so that others can contribute theirs: this says what is wrong with one."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from divaug.base.record import TITLES
from divaug.base.stats import wilson_interval
from divaug.config import layers
from divaug.config.registry import POSTHOC
from divaug.report import results
from divaug.report.contrasts import MOST, contrasts

ROOT = Path(__file__).parents[2] / "recipes"
FILES = sorted(
    file
    for file in ROOT.rglob("*.csv")
    if set(results.KEYS) <= set(file.read_text(encoding="utf-8").split("\n")[0].split(","))
)
OLD = {"augmentation/cifar10.csv", "augmentation/blood_cells.csv", "fast/sprint.csv"}  # before parameters were written


def wrong_with(file, table):
    """Return what is wrong with rows of results, in words; an empty list if nothing is."""
    said = []
    keys = list(results.KEYS)
    for key, pattern in (("protocol", "[0-9a-f]{8}"), ("data", "[0-9a-f]{8}")):
        said += [f"{key} {value!r}" for value in table[key].unique() if not re.fullmatch(pattern, value)]
    said += [f"the run {row} twice" for row in table[table.duplicated(keys)][keys].to_numpy().tolist()]
    known, heads = layers.names("methods"), set(POSTHOC.entries())
    for label in table["method"].unique():
        name, *changes = label.split("+")
        if name not in known:
            said.append(f"the method {name!r}, which --list methods has not")
        said += [
            f"the new head {c!r}" for c in changes if c.startswith("posthoc=") and c.partition("=")[2] not in heads
        ]
    trained = table[~table["method"].str.contains("posthoc=")]
    needed = {"epochs", "preset", "test_bal_acc", "test_prior_corrected_bal_acc", "train_seconds"}
    needed |= set() if file in OLD else {"trained_parameters", "vary"}
    for column in sorted(needed):
        if column not in trained or trained[column].isna().any():
            said.append(f"a row without {column}")
    for column in [c for c in table if c in TITLES or c.startswith(("recall_", "prior_corrected_recall_"))]:
        values = table[column].dropna()
        if not values.between(0, 1).all():
            said.append(f"{column} outside 0 to 1 (shares, not percent)")
    classes = [c for c in table if c.startswith("recall_")]
    known = table[table[classes].notna().any(axis=1)]
    if len(known):
        mean = np.nanmean(known[classes].to_numpy(dtype=float), axis=1)
        if np.abs(mean - known["test_bal_acc"]).max() > 1e-3:  # written with five digits
            said.append("test_bal_acc is not the mean of its classes' recalls")
    return said


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_committed_rows_are_whole(file):
    assert wrong_with(str(file.relative_to(ROOT)), results.read(file)) == []


def test_the_page_of_paper_says_what_its_rows_say():
    rows = results.read(ROOT / "paper" / "cifar10.csv").set_index("method")
    seen = (
        pd.read_csv(ROOT / "paper" / "evaluations.csv")
        .query("seed == 0")
        .pivot_table(index="epoch", columns="method", values="test_acc")
    )
    text = " ".join((ROOT / "paper" / "README.md").read_text(encoding="utf-8").split())
    assert sorted({1, 101, *range(5, 201, 5)}) == seen.index.tolist() and f"best of {len(seen)} evaluations" in text
    assert rows["seed"].tolist() == [0, 0] and set(rows["preset"]) == {"paper"} and set(rows["precision"]) == {"bf16"}
    assert set(rows["epochs"]) == {200} and set(rows["vary"]) == {"init"}
    for method, published, reruns in (("erm", 70.4, "71.2 to 73.2"), ("ldam_drw", 77.0, "-")):
        share, best = rows.loc[method, "test_acc"], seen[method].max()
        assert seen[method][200] == pytest.approx(share)
        assert f"| `{method}` | {published} | {reruns} | {100 * share:.1f} | {100 * best:.1f} | 1 |" in text
        low, high = wilson_interval(share, 10_000)
        assert f"{100 * low:.1f} to {100 * high:.1f} for `{method}`" in text
        assert (
            f"epoch {seen[method].idxmax()} for `erm`" in text or f"and {seen[method].idxmax()} for `ldam_drw`" in text
        )
    best, last, corrected = (
        100 * pd.Series(share) for share in (seen.max(), rows["test_acc"], rows["test_prior_corrected_bal_acc"])
    )
    gains = [one["ldam_drw"] - one["erm"] for one in (last, best)]
    assert (
        f"{gains[0]:.1f} points at the last epoch, {gains[1]:.1f} between the best ones, and 6.7 as published" in text
    )
    assert f"`erm` has {corrected['erm']:.1f} and `ldam_drw` {corrected['ldam_drw']:.1f} %: whether any of" in text
    falls = {method: 100 * -seen[method].diff().min() for method in ("erm", "ldam_drw")}
    assert (
        f"falls from one evaluation to the next by up to {falls['erm']:.1f} (`erm`) and {falls['ldam_drw']:.1f}" in text
    )
    assert f"the networks have {corrected['erm']:.1f} and {corrected['ldam_drw']:.1f} %" in text


def test_what_is_said_of_blood_cells_is_what_a_comparison_of_its_rows_says():
    text = " ".join((ROOT / "augmentation" / "README.md").read_text(encoding="utf-8").split())
    rows = results.read(ROOT / "augmentation" / "blood_cells.csv")
    found = contrasts(rows, baseline="erm").set_index(["metric", "method"])
    raw, corrected = (found.loc[metric] for metric in ("test_bal_acc", "test_prior_corrected_bal_acc"))
    for method in ("ros", "cmo", "strong_tail"):
        row = raw.loc[method]
        assert f"`{method}` {row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]" in text
        assert row["verdict"] == "these runs cannot tell" and row["runs_2"] == MOST
    assert f"(p of the last {raw.loc['strong_tail', 'p_holm']:.3f}) these runs cannot tell" in text
    row = corrected.loc["strong_tail"]
    assert row["verdict"] == "worse" and f"corrected p {row['p_holm']:.3f})" in text
    assert f"is worse ({row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]," in text


def test_the_page_of_agarap_says_what_its_counts_say():
    text = " ".join((ROOT / "agarap" / "README.md").read_text(encoding="utf-8").split())
    counts = pd.read_csv(ROOT / "agarap" / "readings.csv", index_col=0)["images"]
    soft, largest, first, two, none, only, other = counts.tolist()
    rows = results.read(ROOT / "agarap" / "results.csv").set_index("method")["test_acc"]
    assert rows["erm+pixel=none"] == soft / 1e4 and rows["l2_svm+pixel=none"] == largest / 1e4
    assert (
        largest - soft == only - other
        and f"| {soft / 100:.2f} | {100 * wilson_interval(soft / 1e4, 10_000)[0]:.1f} to" in text
    )
    assert (
        f"positive output) | 90.72 | {first / 100:.2f} |" in text
        and f"largest output | | {largest / 100:.2f} |" in text
    )
    assert f"{two} of 10,000 test images have two positive outputs and {none} none" in text
    assert f"softmax is wrong on {only} images, and wrong where it is right on {other}" in text


def test_there_are_such_files():
    assert {"augmentation/cifar10.csv", "fast/sprint.csv"} <= {str(file.relative_to(ROOT)) for file in FILES}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(protocol="b1f048b"), "protocol 'b1f048b'"),
        (lambda t: t.assign(data="c:\\data"), "data 'c"),
        (lambda t: t.assign(method="magic"), "the method 'magic'"),
        (lambda t: t.assign(method="erm+posthoc=magic"), "the new head 'posthoc=magic'"),
        (lambda t: t.assign(seed=0), "twice"),
        (lambda t: t.drop(columns="epochs"), "without epochs"),
        (lambda t: t.assign(preset=float("nan")), "without preset"),
        (lambda t: t.assign(test_bal_acc=100 * t["test_bal_acc"]), "test_bal_acc outside 0 to 1"),
        (lambda t: t.assign(recall_cat=t["recall_cat"] / 2), "not the mean of its classes"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(change, said):
    table = results.read(ROOT / "fast/sprint.csv")
    assert not wrong_with("fast/sprint.csv", table)
    assert any(said in one for one in wrong_with("fast/sprint.csv", change(table))), wrong_with(
        "fast/sprint.csv", change(table)
    )
    assert wrong_with("a new file.csv", table) == ["a row without trained_parameters"]

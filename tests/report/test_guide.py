import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from divaug.base.stats import t_interval
from divaug.report import guide
from divaug.report.comparison_page import methods_of
from divaug.report.document import Document
from divaug.report.guide import write_guide

NOISE = np.array([0.001, -0.002, 0.0015, -0.0005, 0.002, -0.002])
# method: its points over erm raw, with corrected priors, of head and of tail classes; its runs
MADE = {
    "erm": (0, 0, 0, 0, 6), "cmo": (5, 4, 0, 9, 6), "logit_adjusted": (6, 0, -4, 12, 6), "ldam": (0, 3, 0, 0, 6),
    "rus": (-5, -6, -9, 0, 6), "focal": (0, 0, 0, 0, 6), "cutmix": (-7, -8, 0, 0, 6), "vs": (20, 20, 20, 20, 2),
    "ros": (8, -3, 0, 0, 6), "cdt": (-4, 5, 0, 0, 6), "mixup": (-3, 0, 0, 0, 6), "remix": (0, -3.5, 0, 0, 6),
}  # fmt: skip

COSTS = {"erm": (1.0, 1.0, 1.0), "cmo": (1.25, 1.2, 1.3), "vs": (1.1, 0.9, 1.2), "ros": (0.96, 0.95, 0.97)}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    rows = []
    for k, (method, (raw, corrected, head, tail, cuts)) in enumerate(MADE.items()):
        noise = np.roll(NOISE, k) * (1 + 0.1 * k)  # no two alike
        rows += [
            {"experiment": "e", "protocol": "p", "data": "d", "method": method, "seed": seed, "epochs": 9,
             "test_bal_acc": 0.6 + raw / 100 + noise[seed], "test_prior_corrected_bal_acc": 0.7 + corrected / 100 + noise[seed],
             "test_acc_head": 0.8 + head / 100 + noise[seed], "test_acc_mid": 0.6 + noise[seed],
             "test_acc_tail": 0.4 + tail / 100 + noise[seed],
             "train_clean_acc_tail": 0.5 if method == "cutmix" else 0.95}
            for seed in range(cuts)
        ]  # fmt: skip
    document = Document("Which method?")
    write_guide(document, pd.DataFrame(rows), COSTS, command="python -m it")
    return document.markdown(tmp_path_factory.mktemp("guide"))


def card(text, name):
    return re.split(r"\n## ", text.split(f"\n## {name}\n")[1])[0]


def test_methods_are_sorted_by_what_their_runs_show(text):
    short = text.split("## What these runs show")[1].split("## All methods")[0]
    assert "- Perhaps too few epochs: methods that recognise less than 90 % of" in short and "(cutmix 50)" in short
    assert [line for line in short.splitlines() if line.startswith("- ") and "Perhaps" not in line] == [
        "- Better than `erm`, with corrected class priors too: `cmo`",
        "- Better than `erm` in balanced accuracy; within a point of it with corrected class priors: `logit_adjusted`",
        "- Better than `erm` in balanced accuracy; worse with corrected class priors: `ros`",
        "- Within a point of `erm`; better with corrected class priors: `ldam`",
        "- Worse than `erm` in balanced accuracy; better with corrected class priors: `cdt`",
        "- Within a point of `erm`, with corrected class priors too: `focal`",
        "- Within a point of `erm`; worse with corrected class priors: `remix`",
        "- Worse than `erm` in balanced accuracy; within a point of it with corrected class priors: `mixup`",
        "- Worse than `erm`, with corrected class priors too: `rus`, `cutmix`",
        "- Fewer than 3 runs shared with `erm`, so nothing is concluded: `vs`",
    ]


@pytest.mark.parametrize("raw", ["better", "within", "", "worse"])
@pytest.mark.parametrize("corrected", ["better", "within", "", "worse"])
def test_two_verdicts_are_said_together(raw, corrected):
    """Equality that is shown is never called "not shown"."""
    words = {"better": "better", "within": "within 1 of it", "": "these runs cannot tell", "worse": "worse"}
    table = pd.DataFrame({"method": ["erm"] * 3 + ["cmo"] * 3, "seed": [0, 1, 2] * 2})
    kind = guide._kind("cmo", table, {
        metric: {"cmo": SimpleNamespace(n=3, verdict=words[word])}
        for metric, word in (("test_bal_acc", raw), ("test_prior_corrected_bal_acc", corrected))
    })  # fmt: skip
    first, _, second = kind.text.replace(", with", "; with").partition("; ")
    starts = {
        "better": "Better than `erm`",
        "within": "Within a point of `erm`",
        "": "Not told apart",
        "worse": "Worse than",
    }
    assert first.startswith(starts[raw]) and kind.judged
    if raw == corrected:
        assert second == ("" if not raw else "with corrected class priors too")
    else:
        said = {"better": "better", "within": "within a point of it", "": "no", "worse": "worse"}[corrected]
        assert said in second and ("is shown" in second) == (corrected == "" and raw in ("better", "worse"))


def test_cards_and_tables_allow_for_splits_that_overlap(tmp_path):
    """A fifth of one's own images is carved off anew for every seed: test over training images is a quarter."""
    rows = rows_of(["erm", "cmo"], test_prior_corrected_bal_acc=0.5, test_acc_tail=0.3, test_frac=0.2)
    cmo = rows["method"] == "cmo"
    rows.loc[cmo, "test_bal_acc"] += 0.1 + 0.002 * rows.loc[cmo, "seed"]
    rows.loc[cmo, "test_acc_tail"] += 0.2 + 0.01 * rows.loc[cmo, "seed"] ** 2
    rows["test_part"] = rows["seed"].astype(str)
    text = card(written(rows, tmp_path), "cmo")
    low, high = t_interval((100 * rows.loc[cmo, "test_bal_acc"]).tolist(), overlap=0.25)
    assert f"[{low:.1f}, {high:.1f}], with corrected" in text
    gains = [20.0 + seed**2 for seed in range(4)]
    low, high = t_interval(gains, confidence=1 - 0.05 / 3, overlap=0.25)
    assert f"For tail classes: +23.5 [{low:+.1f}, {high:+.1f}] points" in text
    found = methods_of(rows).set_index(["method", "metric"]).loc["cmo", "tail"]
    low, high = t_interval([30 + gain for gain in gains], overlap=0.25)
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_kinds_are_in_order():
    ranks = {both: rank for rank, both in enumerate(guide._KINDS)}
    assert len(ranks) == 16 and min(ranks, key=ranks.__getitem__) == ("better", "better")
    for raw in ("better", "within", "", "worse"):
        own = [ranks[raw, corrected] for corrected in ("better", "within", "", "worse")]
        assert own == sorted(own)


def test_the_table_has_means_with_intervals_and_costs(text):
    lines = [line.split(" | ") for line in text.split("## All methods")[1].splitlines() if line.startswith("| ")]
    rows = {cells[0].strip("| "): cells for cells in lines}
    ordered = ["vs", "ros", "logit_adjusted", "cmo", "erm", "ldam", "focal", "remix", "mixup", "cdt", "rus", "cutmix"]
    assert list(rows) == ["method", *ordered]  # by balanced accuracy
    # t of 5 degrees of freedom: 2.571 * sd / sqrt(6), of the noise in points
    half = 2.5706 * 110 * NOISE.std(ddof=1) / np.sqrt(6)
    assert rows["cmo"][2] == f"65.0 \\[{65 - half:.1f}, {65 + half:.1f}\\]" and rows["cmo"][-1] == "1.25 |"
    assert rows["vs"][1] == "2" and "[" not in rows["vs"][2]  # two runs give no interval
    assert rows["vs"][-1] == "1.10 (unsure) |" and rows["ros"][-1] == "1 |"  # rounds on both sides; within 5 %
    assert rows["rus"][-1] == "- |"


def test_cards_say_when_to_use_a_method_and_when_not(text):
    cmo, moved, rus, few = (card(text, name) for name in ("cmo", "logit_adjusted", "rus", "vs"))
    assert "For tail classes: +9.0 [" in cmo and "Cost: 1.25 times the step of `erm`." in cmo and "Not where" not in cmo
    assert "For tail classes: +12.0 [" in moved and "Not where head classes matter most: -4.0 [" in moved
    assert "--method logit_adjustment` (tau 1) on finished `erm` runs" in moved and "posthoc" not in cmo
    assert "Not where head classes matter most: -9.0 [" in rus and "Worse than `erm`, with" in rus
    assert (
        "Expected (2 runs): balanced accuracy 79.9," in few and "nothing is concluded" in few and "For tail" not in few
    )
    assert "Perhaps too few epochs (`cutmix` recognises 50 % of its" in card(text, "cutmix") and "Perhaps" not in rus
    assert "mix/cmo" in cmo and "arXiv" in cmo and "python -m it --method cmo\n" in cmo


def test_groups_are_judged_by_intervals_that_hold_for_all_cards(text):
    """Of 30 looks (three groups, ten judged methods) each interval has 1 - 0.05 / 30; t of 5 degrees is then 6.6."""
    from scipy.stats import t

    low, high = map(
        float, re.search(r"For tail classes: \+9\.0 \[\+([\d.]+), \+([\d.]+)\]", card(text, "cmo")).groups()
    )
    paired = 100 * (1.1 * np.roll(NOISE, 1) - NOISE)
    half = t.ppf(1 - 0.05 / 60, 5) * paired.std(ddof=1) / np.sqrt(6)
    assert (high - low) / 2 == pytest.approx(half, abs=0.06)


def rows_of(methods, **columns):
    return pd.DataFrame([
        {"experiment": "e", "protocol": "p", "data": "d", "method": method, "seed": seed, "epochs": 9,
         "test_bal_acc": 0.6 + 0.01 * NOISE[seed], **columns}
        for method in methods for seed in range(4)
    ])  # fmt: skip


def written(rows, tmp_path):
    document = Document("Which method?")
    write_guide(document, rows, {}, command="python -m it")
    return document.markdown(tmp_path)


def test_rows_of_other_protocols_are_guides_of_their_own_and_those_without_a_baseline_none(tmp_path):
    both = pd.concat(
        [rows_of(["erm", "cmo"]), rows_of(["erm", "ros"]).assign(protocol="q"), rows_of(["vs"]).assign(data="x")]
    )
    text = written(both, tmp_path)
    assert text.count("## What these runs show") == 2 and "protocol q" in text and "`vs`" not in text
    assert written(rows_of(["vs"]), tmp_path) == "# Which method?\n"


def test_what_is_missing_from_rows_is_no_ground_for_a_verdict(tmp_path):
    assert "## erm" in written(rows_of(["erm"]), tmp_path)
    rows = rows_of(["erm", "cmo"], test_prior_corrected_bal_acc=np.nan)
    rows.loc[rows["seed"] < 2, "test_prior_corrected_bal_acc"] = 0.6  # two of four are known: too few
    text = written(rows, tmp_path)
    assert (
        "- Balanced accuracy is missing, raw or with corrected class priors, so nothing is concluded: `cmo`" in text
        and "tail" not in card(text, "cmo").split("Expected")[1]
    )


def test_a_network_that_predicts_one_class_has_no_verdict(tmp_path):
    rows = rows_of(["erm", "cmo", "ros"], test_prior_corrected_bal_acc=0.5, test_predicted_classes=10)
    for column in ("test_bal_acc", "test_prior_corrected_bal_acc"):
        rows.loc[rows["method"] == "cmo", column] -= 0.3 + 0.001 * (rows["seed"] % 2)
    assert "Worse than `erm`" in card(written(rows, tmp_path), "cmo")
    rows.loc[(rows["method"] == "cmo") & (rows["seed"] == 1), "test_predicted_classes"] = 1
    text, none = written(rows, tmp_path), "A run of it or of `erm` predicts one class, so nothing is concluded"
    assert f"- {none}: `cmo`" in text and f"- {none}." in card(text, "cmo") and "Worse" not in card(text, "cmo")
    assert none not in card(text, "ros")
    alone = (rows["method"] == "erm") & (rows["seed"] == 3)
    rows.loc[alone, "test_predicted_classes"] = 1
    assert none in card(written(rows, tmp_path), "ros")
    text = written(rows[(rows["method"] != "ros") | (rows["seed"] < 3)], tmp_path)  # a seed that ros does not have
    assert none not in card(text, "ros") and "erm, seed 3, predicts one class" in text


def test_a_small_difference_is_said_to_be_small(tmp_path):
    rows = rows_of(["erm", "cmo", "ros"], test_prior_corrected_bal_acc=0.5)
    rows["test_prior_corrected_bal_acc"] += 0.01 * NOISE[rows["seed"]]
    tilt = 0.0001 * (rows["seed"] % 2)
    for method, corrected in (("cmo", 0.004), ("ros", 0.03)):
        own = rows["method"] == method
        rows.loc[own, "test_bal_acc"] += 0.004 + tilt[own]
        rows.loc[own, "test_prior_corrected_bal_acc"] += corrected + tilt[own]
    text = written(rows, tmp_path)
    small = " by less than a point"
    assert f"- Better than `erm`{small}, with corrected class priors too{small}: `cmo`\n" in text
    assert f"- Better than `erm`{small}, with corrected class priors too: `ros`\n" in text
    assert "corrected for the 2 methods that have one (Holm)" in text
    rows.loc[rows["method"] == "cmo", "test_prior_corrected_bal_acc"] -= 0.004 + 0.02 * (rows["seed"] % 2)
    text = written(rows, tmp_path)
    moved = f"Better than `erm` in balanced accuracy{small}; with corrected class priors no gain is shown"
    assert f"- {moved}: `cmo`\n" in text and "trains nothing: try it" in card(text, "cmo")


def test_what_a_seed_varies_is_read_from_the_rows_and_the_preset_too(tmp_path):
    cut = written(rows_of(["erm", "cmo"], vary="cut", preset="sprint"), tmp_path)
    assert "Each seed is a cut of its own" in cut and "python -m it --method cmo --preset sprint\n" in cut
    assert "All are of one cut" in written(rows_of(["erm", "cmo"], vary="init"), tmp_path)
    assert "is not known of all rows" in written(rows_of(["erm", "cmo"]), tmp_path)


def test_seeds_that_only_one_method_has_are_no_pairs(tmp_path):
    rows = rows_of(["erm", "cmo"], test_prior_corrected_bal_acc=0.5)
    text = written(rows[(rows["method"] == "cmo") | (rows["seed"] < 2)], tmp_path)
    assert "- Fewer than 3 runs shared with `erm`, so nothing is concluded: `cmo`" in text
    assert "Expected (4 runs)" in card(text, "cmo")


def test_a_method_without_a_number_is_last(tmp_path):
    rows = rows_of(["erm", "cmo", "ros"])
    rows.loc[rows["method"] == "cmo", "test_bal_acc"] = np.nan
    rows.loc[rows["method"] == "ros", "test_bal_acc"] += 0.1
    assert re.findall(r"\n## (\w+)\n", written(rows, tmp_path)) == ["ros", "erm", "cmo"]

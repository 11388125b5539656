"""Differences from a baseline against scipy, closed forms and literals; what is concluded, and what is no result."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from divaug.base.errors import ConfigError
from divaug.base.stats import equivalence_p, holm, runs_needed, t_interval, t_p
from divaug.report.contrasts import contrasts, corrected_for, helped_and_hurt, lines_of, overlap_of, unfinished


def table_of(runs, **more):
    """Return a table of method -> balanced accuracies, by seed."""
    rows = [
        {"method": method, "seed": seed, "test_bal_acc": value}
        | {key: values[method][seed] for key, values in more.items()}
        for method, values_ in runs.items()
        for seed, value in enumerate(values_)
    ]
    return pd.DataFrame(rows)


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


RUNS = {
    "erm": [0.60, 0.62, 0.61, 0.63, 0.60, 0.62],
    "ros": [0.65, 0.66, 0.67, 0.66, 0.65, 0.68],
    "cmo": [0.58, 0.65, 0.60, 0.66, 0.57, 0.64],
}


def test_every_number_of_a_contrast_against_scipy():
    found = contrasts(table_of(RUNS)).set_index("method")
    assert list(found.index) == ["ros", "cmo"] and set(found["baseline"]) == {"erm"} and set(found["n"]) == {6}
    ps = []
    for method in ("ros", "cmo"):
        d = 100 * (np.array(RUNS[method]) - RUNS["erm"])
        row, test = found.loc[method], reference.ttest_1samp(d, 0.0)
        ps.append(test.pvalue)
        assert row["difference"] == pytest.approx(d.mean()) and row["p"] == pytest.approx(test.pvalue)
        assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval()))
        assert (row["flip_low"], row["flip_high"]) == pytest.approx((d.min(), d.max()))  # six pairs: the extremes
        both = [reference.ttest_1samp(d, m, alternative=a).pvalue for m, a in ((-1.0, "greater"), (1.0, "less"))]
        assert row["p_equivalence"] == pytest.approx(max(both))
        assert row["runs_1"] == runs_needed(d.std(ddof=1), 1.0) and row["runs_2"] == runs_needed(d.std(ddof=1), 2.0)
    assert found["p_holm"].tolist() == pytest.approx(holm(ps))
    assert found["verdict"].tolist() == ["better", "these runs cannot tell"]


def test_the_baseline_the_named_methods_and_the_margin_are_those_asked_for():
    swapped = contrasts(table_of(RUNS), baseline="ros", margin=7.0).set_index("method")
    assert list(swapped.index) == ["erm", "cmo"] and swapped.loc["erm", "verdict"] == "worse, by less than 7"
    (alone,) = contrasts(table_of(RUNS), named=["cmo"]).itertuples()
    assert alone.method == "cmo" and alone.p_holm == alone.p  # one test needs no correction
    wide = contrasts(table_of(RUNS), named=["cmo"], margin=6.0)
    assert wide["verdict"].tolist() == ["within 6 of it"]
    both = contrasts(table_of(RUNS), named=["cmo", "ros"], margin=6.0)  # equivalence is corrected too
    assert both["p_equivalence_holm"].tolist() == pytest.approx(holm(both["p_equivalence"].tolist()))
    close = {"erm": [0.6] * 4, **{f"m{k}": [0.6015, 0.594, 0.601, 0.597] for k in range(8)}}
    several = contrasts(table_of(close))
    assert (several["p_equivalence"] < 0.05).all() and set(several["verdict"]) == {"these runs cannot tell"}
    no_erm = table_of({k: RUNS[k] for k in ("ros", "cmo")})
    assert contrasts(no_erm)["baseline"].tolist() == ["ros"]
    assert not len(contrasts(table_of({"erm": [0.5]})))
    for wrong, said in (
        ({"baseline": "rso"}, "--baseline rso: no run of it; did you mean 'ros'"),
        ({"named": ["erm"]}, "--contrasts erm: no run of it beside erm"),
        ({"named": ["cm"]}, "did you mean 'cmo'"),
        ({"margin": 0.0}, "--margin must be above 0"),
        ({"margin": math.inf}, "--margin must be above 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            contrasts(table_of(RUNS), **wrong)


def test_a_difference_that_correction_takes_away_is_said_to_be_one():
    rng = np.random.default_rng(3)
    runs = {"erm": [0.6] * 5} | {f"m{k}": (0.6 + rng.normal(0, 0.01, 5)).tolist() for k in range(8)}
    runs["m0"] = [0.605, 0.612, 0.618, 0.604, 0.611]  # t test alone: p = 0.019, times eight above 0.05
    (line,) = [line for line in lines_of(contrasts(table_of(runs))) if line.startswith("  m0,")]
    assert "these runs cannot tell (alone p = 0.0" in line and ", corrected 0.1" in line
    assert "for 8 methods (Holm)" in lines_of(contrasts(table_of(runs)))[0]


@pytest.mark.parametrize(
    ("paired", "wanted"),
    [
        ([2.0, 2.5, 1.5, 2.0], "+2.0 [+1.4, +2.6], n = 4: better; alone, 1 and 2 points need about 4 and 3 runs"),
        ([-2.0, -2.5, -1.5, -2.0], "-2.0 [-2.6, -1.4], n = 4: worse"),
        ([0.2, -0.1, 0.1, 0.0], "n = 4: within 1 of it; alone, 1 and 2"),
        ([2.0, -2.5, 1.5, -1.0], "n = 4: these runs cannot tell; alone, 1 and 2 points need about"),
        ([2.0, 2.1], "+2.1 [+1.4, +2.7], n = 2: these runs cannot tell"),  # with two, normality decides
        ([2.0], "+2.0 in one run each: these runs cannot tell; give --seeds 0-4"),
        ([math.nan], "no pair of runs with the same seed has this number: these runs cannot tell"),
        ([0.0, 0.0], "+0.0 in all 2 runs, without any spread: these runs cannot tell"),
    ],
)
def test_a_difference_in_words(paired, wanted):
    table = table_of({"erm": [0.5] * len(paired), "cmo": [0.5 + d / 100 for d in paired]})
    assert wanted in lines_of(contrasts(table))[1]
    other = table.assign(seed=table["seed"] + 10 * (table["method"] == "cmo"))
    assert "no pair of runs" in lines_of(contrasts(other))[1]


def test_of_many_methods_the_text_has_a_line_for_every_verdict():
    rng = np.random.default_rng(3)
    runs = {"erm": [0.6] * 6} | {f"m{k}": (0.6 + rng.normal(0, 0.01, 6)).tolist() for k in range(8)}
    runs["good"] = [0.70, 0.71, 0.72, 0.70, 0.71, 0.72]
    lines = lines_of(contrasts(table_of(runs)))
    assert "corrected for 9 methods" in lines[0] and "Intervals are in the report" in lines[0]
    assert lines[1] == "  bal, better: good +11.0"
    assert all(sum(f"m{k} " in line for line in lines) == 1 for k in range(8))


def test_equal_differences_are_no_result_whatever_rounding_leaves_of_them():
    """4 more of 360 test images right in every seed: the differences differ by 1e-14, their t test is certain."""
    right = {"erm": [251, 260, 283], "cmo": [255, 264, 287]}
    table = table_of({method: [n / 360 for n in counts] for method, counts in right.items()})
    table["recall_ant"] = table["test_bal_acc"]
    (row,) = contrasts(table).itertuples()
    assert math.isnan(row.p) and row.verdict == "these runs cannot tell" and (row.helped, row.hurt) == (0, 0)
    assert "without any spread" in lines_of(contrasts(table))[1]


def test_classes_helped_and_hurt():
    classes = {
        "recall_ant": {"erm": [0.5, 0.5, 0.5], "cmo": [0.60, 0.61, 0.62]},  # helped beyond doubt
        "recall_bee": {"erm": [0.5, 0.5, 0.5], "cmo": [0.40, 0.39, 0.38]},  # hurt beyond doubt
        "recall_cat": {"erm": [0.5, 0.5, 0.5], "cmo": [0.2, 0.9, 0.6]},  # up by 6.7, and no doubt about the doubt
        "recall_dog": {"erm": [0.5, 0.5, math.nan], "cmo": [math.nan, 0.5, 0.5]},  # the same in the one pair
    }
    table = table_of({"erm": [0.5] * 3, "cmo": [0.5] * 3}, **classes)
    (row,) = contrasts(table).itertuples()
    assert (row.helped, row.hurt) == (1, 1)
    assert helped_and_hurt(table, "erm") == [
        "cmo against erm, mean test recall of classes: better in 2 (ant +11.0, cat +6.7); worse in 1 (bee -11.0)."
    ]
    assert helped_and_hurt(table[table["seed"] < 2], "erm") == []


@pytest.mark.parametrize(("collapsed", "useless"), [("erm", {"cmo", "ros"}), ("cmo", {"cmo"})])
def test_a_network_that_predicts_one_class_is_compared_with_nothing(collapsed, useless):
    runs = {"erm": [0.5, 0.51, 0.5], "cmo": [0.7, 0.71, 0.72], "ros": [0.7, 0.72, 0.71]}
    one = {method: [3, 1 if method == collapsed else 3, 3] for method in runs}
    found = contrasts(table_of(runs, test_predicted_classes=one)).set_index("method")["verdict"]
    assert {
        method for method in ("cmo", "ros") if found[method] == "no result: a network predicts one class"
    } == useless
    assert all(found[method] == "better" for method in {"cmo", "ros"} - useless)
    apart = table_of(runs, test_predicted_classes=one)
    apart = apart[(apart["method"] != "ros") | (apart["seed"] != 1)]  # ros has no run beside the baseline's bad one
    assert contrasts(apart).set_index("method")["verdict"]["ros"] == "these runs cannot tell"
    runs = {"erm": [0.5, 0.51, 0.5], "cmo": [0.7, 0.71, 0.72, 0.1]}  # its fourth run has no partner
    alone = contrasts(table_of(runs, test_predicted_classes={"erm": [3, 3, 3], "cmo": [3, 3, 3, 1]}))
    assert alone["verdict"].tolist() == ["better"]


def test_only_tests_that_were_made_are_counted():
    runs = {"erm": [0.5, 0.51, 0.5], "cmo": [0.7, 0.71, 0.72], "ros": [0.7], "remix": [0.6]}
    rows = [(method, seed, share) for method, shares in runs.items() for seed, share in enumerate(shares)]
    found = contrasts(pd.DataFrame(rows, columns=["method", "seed", "test_bal_acc"]))
    assert corrected_for(found) == 1 and "verdict by a t test:" in lines_of(found)[0]


def test_methods_without_a_verdict_take_none_from_others():
    """Twenty with two runs, and a collapsed one: five pairs of cmo are corrected for cmo alone."""
    few = {f"few{i}": [0.5 + 0.01 * i, 0.52] for i in range(20)}
    runs = {"erm": [0.60, 0.61, 0.62, 0.60, 0.63], "cmo": [0.62, 0.63, 0.63, 0.63, 0.64], "rus": [0.1] * 5}
    table = table_of(few | runs)
    table["test_predicted_classes"] = np.where(table["method"] == "rus", 1, 10)
    found = contrasts(table).set_index("method")
    alone = contrasts(table_of({name: runs[name] for name in ("erm", "cmo")})).set_index("method")
    assert found.loc["cmo", "p_holm"] == found.loc["cmo", "p"] == alone.loc["cmo", "p_holm"]
    assert found.loc["cmo", "verdict"] == alone.loc["cmo", "verdict"] == "better" and corrected_for(found) == 1
    assert found.drop("cmo")["p_holm"].isna().all() and found.loc["few3", "p"] > 0


def test_runs_that_split_the_same_images_anew_are_told_from_new_cuts():
    runs = {"erm": [0.60, 0.61, 0.62, 0.60, 0.63], "cmo": [0.62, 0.63, 0.63, 0.63, 0.64]}
    table = table_of(runs)
    apart = contrasts(table.assign(test_part="aa", test_frac=0.2))
    assert overlap_of(table) == 0 == overlap_of(table.assign(test_part="aa", test_frac=0.2))
    assert apart.loc[0, "p"] == contrasts(table).loc[0, "p"]
    split, overlap = table.assign(test_part=table["seed"].astype(str), test_frac=0.25), 1 / 3
    assert overlap_of(split) == pytest.approx(overlap)
    row = contrasts(split, margin=2.5).loc[0]
    paired = [100 * (b - a) for a, b in zip(*runs.values(), strict=True)]
    assert (row["low"], row["high"]) == pytest.approx(t_interval(paired, overlap=overlap))
    assert row["p"] == pytest.approx(t_p(paired, overlap=overlap)) and row["p"] > apart.loc[0, "p"]
    assert row["p_equivalence"] == pytest.approx(equivalence_p(paired, 2.5, overlap=overlap))
    assert row["runs_2"] == runs_needed(float(np.std(paired, ddof=1)), 2.0, overlap=overlap)
    assert math.isnan(row["p_flip"]) and math.isnan(row["flip_low"])
    said = lines_of(contrasts(split, margin=2.5))
    assert (
        said[-1] == "Verdicts rest on normal differences: for runs that split the same images there is no other test."
    )
    assert "no number of splits of these images finds 1" in said[1] and "alone, 2 points need about" in said[1]
    assert (
        "10,000" not in said[1]
        and "no number of splits of these images finds 1 or 2" in lines_of(contrasts(split.assign(test_frac=0.5)))[1]
    )


def test_verdicts_that_rest_on_normality_say_so():
    runs = {"erm": [0.60, 0.61, 0.62, 0.60, 0.63, 0.6], "cmo": [0.62, 0.63, 0.63, 0.63, 0.64, 0.62]}
    (said,) = [line for line in lines_of(contrasts(table_of({k: v[:4] for k, v in runs.items()}))) if "normal" in line]
    assert said == (
        "Verdicts from 4 pairs rest on normal differences: the sign-flip test, which does without, needs 6 pairs."
    )
    for n in (2, 6):  # none is given, and it could be without
        assert "normal" not in " ".join(lines_of(contrasts(table_of({k: v[:n] for k, v in runs.items()}))))
    more = table_of(runs | {"ros": [0.6, 0.63, 0.61, 0.64, 0.6, 0.62], "rus": [0.6, 0.6, 0.6, 0.61, 0.62, 0.6]})
    # of three tests corrected by Holm the first must reach 0.05 / 3: 2 / 2^7 = 0.0156 does
    assert lines_of(contrasts(more))[-1] == (
        "Verdicts from 6 pairs rest on normal differences: the sign-flip test of 3 methods, which does without, needs 7 "
        "pairs."
    )


def test_what_is_no_result():
    more = {
        "test_predicted_classes": {"erm": [3, 1], "cmo": [3, 3]},
        "train_clean_acc_tail": {"erm": [0.95, 0.95], "cmo": [0.95, 0.75]},
        "recall_ant": {"erm": [0.5, 0.0], "cmo": [0.5, 0.5]},
        "recall_bee": {"erm": [0.5, 1.0], "cmo": [0.5, 0.5]},
    }
    notes = unfinished(table_of({"erm": [0.5, 0.5], "cmo": [0.5, 0.5]}, **more))
    assert notes[0] == "erm, seed 1, predicts one class (bee): that is no result."
    assert "(cmo 85). More --epochs" in notes[1] and len(notes) == 2
    assert unfinished(table_of(RUNS)) == []

"""Contrasts and report of rows whose effects are known."""

import numpy as np
import pandas as pd
import pytest

from divaug.base.errors import ConfigError, DataError
from divaug.base.stats import sign_flip_p, t_interval
from divaug.study.exchange.analysis import FACTORIAL, factorial, units
from divaug.study.exchange.contrasts import contrasts_of, lost_units, results_of
from divaug.study.exchange.plan import read_plan
from divaug.study.exchange.report import write_report
from divaug.study.exchange.rows import COLUMNS, TEXT
from divaug.study.exchange.study import rows_of

PLAN = """
title = "synthetic"
analysis = 1
[words]
primary = ["digits/longtailed"]
[[design]]
dataset = "digits"
name = "longtailed"
cuts = "0-11"
n = 100
heads = 400
kinds = 16
steps = 100
arms.A = { number = 1.0, breadth = 0.5 }
arms.B = { number = 1.0, breadth = 1.0 }
arms.C = { number = 2.0, breadth = 0.5 }
arms.D = { number = 2.0, breadth = 1.0 }
[[design]]
dataset = "digits"
name = "longtailed"
variant = "twice"
cuts = "0-7"
n = 100
heads = 400
kinds = 16
steps = 100
arms.A2 = { number = 1.0, breadth = 0.5, copies = 2 }
arms.B2 = { number = 1.0, breadth = 1.0, copies = 2 }
[[design]]
dataset = "digits"
name = "longtailed"
variant = "kinds8"
cuts = "0-7"
n = 100
heads = 400
kinds = 8
steps = 100
arms.A = { number = 1.0, breadth = 0.5 }
arms.C = { number = 2.0, breadth = 0.5 }
"""
MEANS = {"A": 0.50, "B": 0.52, "C": 0.56, "D": 0.58, "A2": 0.53, "B2": 0.54}  # phi is 2 / 8
LATENT = {"A": 40.0, "B": 42.0, "C": 40.5, "D": 42.5, "A2": 40.0, "B2": 42.0}


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return read_plan(path)


def table_of(plan, **changes):
    rng = np.random.default_rng(0)
    rows = []
    for design in plan.designs:
        for cut in design.cuts:
            for arm in design.arms:
                shift = -0.02 if design.variant == "kinds8" else 0.0
                outcome = MEANS[arm] + shift + 0.01 * (1 if cut % 2 else -1) + 0.003 * rng.normal()
                numbers = {
                    name: outcome + offset
                    for name, offset in (
                        ("tail_prior_corrected", 0),
                        ("prior_corrected", 0.1),
                        ("auc", 0.2),
                        ("recall_kept", 0.05),
                        ("recall_withheld", -0.05),
                    )
                }
                latent = {name: LATENT[arm] + 0.1 * rng.normal() for name in ("topk_ce_heldout", "topk_fe_heldout")}
                rows.append({
                    **{name: "" if name in TEXT else 1.0 for name in COLUMNS}, **numbers, **latent,
                    "dataset": design.dataset, "design": design.name, "variant": design.variant, "arm": arm, "cut": cut,
                    "seed": cut, "train_recall": 0.95, "status": "ok", "prereg": plan.prereg, "seconds": 36.0,
                    "coverage": rng.uniform(), "vendi_u": rng.uniform(), "vendi_outside": rng.uniform(),
                } | changes)  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def row(found, name):
    return found.set_index("contrast").loc[name]


def test_the_verdict_is_that_of_the_analysis_over_pairs(plan):
    table = table_of(plan)
    found = contrasts_of(plan, plan.designs[0], table)
    own = table[table["variant"] == "main"]
    by_hand = {arm: [] for arm in "ABCD"}
    for pair in range(6):
        for arm in "ABCD":
            both = own[(own["arm"] == arm) & own["cut"].isin([2 * pair, 2 * pair + 1])]
            by_hand[arm].append(100 * both["tail_prior_corrected"].mean())
    expected = factorial({arm: np.array(values) for arm, values in by_hand.items()}, plan.words)
    phi = row(found, "phi")
    assert (phi["effect"], phi["lo"], phi["hi"]) == pytest.approx(
        (expected.phi.value, expected.phi.low, expected.phi.high)
    )
    assert phi["n"] == 6 and phi["verdict"] == "matters, less than number"
    assert phi["p"] == sign_flip_p(expected.breadth.tolist()) == 2 / 2**6
    assert row(found, "phi, side of one half")["verdict"] == "less than half"
    assert phi["effect"] == pytest.approx(0.25, abs=0.08)
    gain = row(found, "D - A")
    assert (gain["lo"], gain["hi"]) == pytest.approx(t_interval(expected.gain.tolist()))
    assert gain["effect"] == pytest.approx(8, abs=0.5)


@pytest.mark.parametrize(("name", "effect"), [("B - A", 2), ("D - C", 2), ("C - A", 6), ("D - B", 6), ("number", 6)])
def test_simple_effects_have_their_signs(plan, name, effect):
    found = contrasts_of(plan, plan.designs[0], table_of(plan))
    assert row(found, name)["effect"] == pytest.approx(effect, abs=0.6)


def test_kept_and_withheld_kinds_are_read_from_their_columns(plan):
    table = table_of(plan)
    table.loc[table["arm"] == "D", "recall_kept"] += 0.03
    table.loc[table["arm"] == "A", "recall_withheld"] -= 0.05
    found = contrasts_of(plan, plan.designs[0], table)
    assert row(found, "D - A, kept kinds")["effect"] == pytest.approx(11, abs=0.5)
    assert row(found, "D - A, withheld kinds")["effect"] == pytest.approx(13, abs=0.5)
    assert row(found, "B - A, withheld kinds")["effect"] == pytest.approx(7, abs=0.6)
    assert row(found, "transfer to kept kinds")["effect"] == pytest.approx(11 / 6, abs=0.25)


def test_twice_compares_with_the_main_designs_larger_arms_in_the_same_cuts(plan):
    """A2, B2 against C, D: breadth (1 + 2) / 2, D - A2 = 5."""
    found = contrasts_of(plan, plan.designs[1], table_of(plan))
    assert row(found, "phi")["n"] == 4
    assert row(found, "breadth")["effect"] == pytest.approx(1.5, abs=0.5)
    assert row(found, "D - A")["effect"] == pytest.approx(5, abs=0.5)


def test_other_kinds_take_b_and_d_from_the_main_design(plan):
    """A and C are 2 points lower with coarser kinds: breadth 4, D - A = 10."""
    found = contrasts_of(plan, plan.designs[2], table_of(plan))
    assert row(found, "breadth")["effect"] == pytest.approx(4, abs=0.5)
    assert row(found, "D - A")["effect"] == pytest.approx(10, abs=0.5)
    assert set(results_of(plan, plan.designs[2], table_of(plan))["cut"]) == set(range(8))  # the variant's own
    arms = results_of(plan, plan.designs[2], table_of(plan)).groupby("arm")["variant"].unique()
    assert {arm: list(names) for arm, names in arms.items()} == {
        "A": ["kinds8"], "B": ["main"], "C": ["kinds8"], "D": ["main"]
    }  # fmt: skip


def test_no_verdict_before_all_cuts_are_in(plan):
    table = table_of(plan)
    last = (table["variant"] == "main") & (table["cut"] == 11) & (table["arm"] == "C")
    found = contrasts_of(plan, plan.designs[0], table[~last])  # and no number
    assert found[["contrast", "verdict"]].to_numpy().tolist() == [["phi", "unfinished: 5 of 6 units"]]
    assert found[["effect", "lo", "hi", "p"]].isna().all(axis=None)
    failed = pd.concat([table[~last], *[table[last].assign(status="failed")] * 2], ignore_index=True)
    assert lost_units(plan, plan.designs[0], failed, FACTORIAL) == 1
    assert lost_units(plan, plan.designs[0], failed, ("A", "B", "D")) == 0
    found = row(contrasts_of(plan, plan.designs[0], failed), "phi")
    assert found["n"] == 5 and found["verdict"] == "matters, less than number"
    twice = contrasts_of(plan, plan.designs[1], pd.concat([failed, *[table[last].assign(status="failed", cut=5)] * 2]))
    assert row(twice, "phi")["n"] == 4  # cut 5's own row is there; what failed before it does not count
    gone = table[~((table["variant"] == "main") & (table["cut"] == 5) & (table["arm"] == "D"))]
    lost = pd.concat([gone, *[table[last].assign(status="failed", cut=5, arm="D")] * 2], ignore_index=True)
    borrowed = row(contrasts_of(plan, plan.designs[1], lost), "phi")  # D of the main design is lost to the variant too
    assert borrowed["n"] == 3 and not borrowed["verdict"].startswith("unfinished")
    assert lost_units(plan, plan.designs[1], lost, ("A2", "B2", "C", "D")) == 1
    main = (table["variant"] == "main") & (table["cut"] == 4) & (table["arm"] == "A")  # A2 stands for it
    without = pd.concat([table[~main], *[table[main].assign(status="failed")] * 2], ignore_index=True)
    own = (without["variant"] == "twice") & (without["cut"] == 6) & (without["arm"] == "A2")
    pending = row(contrasts_of(plan, plan.designs[1], without[~own].copy()), "phi")
    assert pending["verdict"] == "unfinished: 3 of 4 units"
    once = pd.concat([table[~last], table[last].assign(status="failed")], ignore_index=True)
    assert lost_units(plan, plan.designs[0], once, FACTORIAL) == 0  # it is still to be repeated


def test_an_arm_that_is_not_fitted_forbids_a_verdict(plan):
    table = table_of(plan)
    table.loc[table["arm"] == "D", "train_recall"] = 0.7
    verdict = row(contrasts_of(plan, plan.designs[0], table), "phi")["verdict"]
    assert verdict == "not measurable: arm D is not fitted (training recall 0.70)"


@pytest.mark.parametrize("column", ["topk_ce_heldout", "topk_fe_heldout"])
def test_a_verdict_says_where_latent_diversity_did_not_move(plan, column):
    table = table_of(plan)
    table[column] = np.random.default_rng(1).normal(40, 0.1, len(table))
    verdict = row(contrasts_of(plan, plan.designs[0], table), "phi")["verdict"]
    assert verdict.startswith("matters, less than number; input diversity: latent diversity not shown")


def test_kinds_of_another_grain_are_not_compared(plan):
    table = table_of(plan)
    table.loc[table["variant"] == "kinds8", "G"] = 8.0
    names = contrasts_of(plan, plan.designs[2], table)["contrast"]
    assert "breadth" in set(names) and not names.str.contains("kinds").any()
    assert contrasts_of(plan, plan.designs[0], table)["contrast"].str.contains("kept kinds").any()


def test_rows_of_another_hash_are_refused_and_counted(plan):
    table = table_of(plan)
    foreign = pd.concat([table, table.assign(prereg="0" * 12, tail_prior_corrected=0.9)], ignore_index=True)
    pd.testing.assert_frame_equal(
        contrasts_of(plan, plan.designs[0], foreign), contrasts_of(plan, plan.designs[0], table)
    )
    path = rows_of(plan, "digits")
    path.parent.mkdir(parents=True)
    foreign.to_csv(path, index=False)
    primary, files = write_report([plan], command="the command")
    assert primary["verdict"].tolist() == ["matters, less than number"]
    text = files[0].read_text()
    assert f"{len(table)} of {2 * len(table)} rows of digits are of other preregistrations and not read" in text
    assert "digits: *matters, less than number*. Halving the kinds of a rare class's images costs" in text
    assert "the command" in text and "| digits/longtailed | 48 | 48 |" in text
    page = files[1].read_text()
    assert page.count('<img src="data:image/png;base64') == 4 and "matters, less than number" in page
    judged = pd.read_csv(path.with_name("contrasts.csv"))
    assert set(judged["design"]) == {"longtailed", "longtailed/twice", "longtailed/kinds8"}


def test_without_a_row_the_report_says_so(plan):
    primary, files = write_report([plan], command="x")
    assert not len(primary)
    assert "digits: no result yet." in files[0].read_text()
    assert write_report([plan], command="x")[1] == files  # over an empty table of contrasts too
    assert files[0].parent.name == "plan"  # a folder of its own: another plan's report stays


def test_a_report_keeps_the_contrasts_of_designs_that_it_does_not_judge(plan, tmp_path):
    path = rows_of(plan, "digits").with_name("contrasts.csv")
    path.parent.mkdir(parents=True)
    kept = "phi,plan,digits,other,1,0,2,,5,kept", "phi,pilot,digits,longtailed,1,0,2,,5,kept"
    path.write_text("\n".join(["contrast,plan,dataset,design,effect,lo,hi,p,n,verdict", *kept, ""]))
    table_of(plan).to_csv(path.with_name("runs.csv"), index=False)
    for _ in range(2):
        write_report([plan], command="x")
        found = pd.read_csv(path)
        assert found[["plan", "design"]].drop_duplicates().agg("/".join, axis=1).tolist() == [
            "plan/other", "pilot/longtailed", "plan/longtailed", "plan/longtailed/twice", "plan/longtailed/kinds8",
        ]  # fmt: skip
        assert (found["verdict"] == "kept").sum() == 2 and not found.duplicated(["plan", "design", "contrast"]).any()


def test_contrasts_of_an_older_version_are_named(plan):
    path = rows_of(plan, "digits").with_name("contrasts.csv")
    path.parent.mkdir(parents=True)
    path.write_text("contrast,dataset,design,effect,lo,hi,p,n,verdict\nphi,digits,other,1,0,2,,5,kept\n")
    with pytest.raises(DataError, match="has no column 'plan'"):
        write_report([plan], command="x")


def test_a_plan_without_rows_removes_no_contrasts_of_a_design_of_that_name(plan, tmp_path):
    """Another plan beside it, such as a pilot, may have judged a design of the same name."""
    path = rows_of(plan, "digits").with_name("contrasts.csv")
    path.parent.mkdir(parents=True)
    path.write_text(
        "contrast,plan,dataset,design,effect,lo,hi,p,n,verdict\nphi,pilot,digits,longtailed,1,0,2,,5,kept\n"
    )
    write_report([plan], command="x")
    assert pd.read_csv(path)["verdict"].tolist() == ["kept"]


def test_plans_of_one_report_are_in_one_folder(plan, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "plan.toml").write_text(PLAN)
    with pytest.raises(ConfigError, match="must be in one folder"):
        write_report([plan, read_plan(tmp_path / "other" / "plan.toml")], command="x")
    twin = plan.path.with_name("twin.toml")
    twin.write_text(plan.path.read_text())
    with pytest.raises(ConfigError, match="two preregistrations have a design digits/longtailed"):
        write_report([plan, read_plan(twin)], command="x")  # neither figures nor tables could tell them apart


def test_paired_units_of_the_table_are_all_classes(plan):
    """Cuts of a pair differ by 2 points by construction; their mean does not."""
    own = table_of(plan)
    values = units(own[own["variant"] == "main"], "tail_prior_corrected", ("A",), paired=True)["A"]
    assert values.std() < 0.5 and len(values) == 6

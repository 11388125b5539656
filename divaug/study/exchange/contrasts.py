"""The table of contrasts: the verdict on each design, and the effects that explain it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from divaug.base.stats import sign_flip_p, t_interval
from divaug.study.exchange.analysis import FACTORIAL, NOT_MEASURABLE, factorial, fieller, units
from divaug.study.exchange.plan import Contrast, Design, Plan
from divaug.study.exchange.rows import ATTEMPTS, FAILED, OK, REFUSED, of_plan

OUTCOME = {
    "longtailed": "tail_prior_corrected", "balanced": "balanced_accuracy", "slides": "tail_prior_corrected",
}  # fmt: skip
COMPANIONS = {"prior_corrected": "all classes", "auc": "AUC"}
COLUMNS = ("contrast", "plan", "dataset", "design", "effect", "lo", "hi", "p", "n", "verdict")
TWICE = {"A": "A2", "B": "B2"}
UNFINISHED = "unfinished"
NOT_SHOWN = "; input diversity: latent diversity not shown to be manipulated"
_EFFECTS = {
    "B - A": ("B", "A"), "D - C": ("D", "C"), "C - A": ("C", "A"), "D - B": ("D", "B"), "D - A": ("D", "A"),
}  # fmt: skip


def contrasts_of(plan: Plan, design: Design, table: Any) -> Any:
    """Return all contrasts of a design.

    Args:
        plan: The preregistration.
        design: One of its designs; arms that a variant lacks are those of the main design in the same cuts.
        table: Rows of the data set.
    """
    import pandas as pd

    rows = results_of(plan, design, table)
    out = _factorial_rows(plan, design, rows, table)
    out += [row for contrast in design.contrasts for row in _named_rows(plan, design, contrast, rows, table)]
    same = {"plan": plan.path.stem, "dataset": design.dataset, "design": name_of(design)}
    return pd.DataFrame([{**row, **same} for row in out], columns=COLUMNS)


def results_of(plan: Plan, design: Design, table: Any) -> Any:
    """Return the rows with a result that a design is judged by; a variant's missing arms come from the main design."""
    import pandas as pd

    own = of_plan(table, plan, design)
    own = own[own["status"] == OK]
    if design.variant == "main" or not len(own):
        return own
    for main in mains_of(plan, design):
        rows = of_plan(table, plan, main)
        rows = rows[(rows["status"] == OK) & ~rows["arm"].isin(list(design.arms)) & rows["cut"].isin(design.cuts)]
        own = pd.concat([own, rows], ignore_index=True)
    return own


def mains_of(plan: Plan, design: Design) -> list[Design]:
    """Return the main design that a variant takes its missing arms from; none for a main design."""
    same = (design.dataset, design.name, "main")
    return [one for one in plan.designs if (one.dataset, one.name, one.variant) == same and one is not design]


def name_of(design: Design) -> str:
    """Return a design's name within its data set."""
    return design.name if design.variant == "main" else f"{design.name}/{design.variant}"


def _factorial_rows(plan: Plan, design: Design, rows: Any, table: Any) -> list[dict[str, Any]]:
    arms = trained = FACTORIAL
    if set(TWICE.values()) <= set(rows["arm"]):
        trained = tuple(TWICE.get(arm, arm) for arm in FACTORIAL)
        rows = rows[~rows["arm"].isin(list(TWICE))]
        rows = rows.assign(arm=rows["arm"].replace({new: old for old, new in TWICE.items()}))
    if not set(arms) <= set(rows["arm"]):
        return []
    paired = design.name == "longtailed"
    outcome = OUTCOME[design.name]
    values = units(rows, outcome, arms, paired=paired)
    n = len(values["A"])
    if n < 2:
        return []
    found = factorial(values, plan.words)
    forbidden = forbids(plan, design, rows, arms, n + lost_units(plan, design, table, trained))
    if forbidden.startswith(UNFINISHED):  # nothing is looked at before all cuts are in
        return [_row("phi", n, np.nan, np.nan, np.nan, np.nan, forbidden)]

    def said(word: str) -> str:
        return forbidden or word

    verdict = found.verdict
    if verdict != NOT_MEASURABLE and not manipulated_latently(rows, paired=paired):
        verdict += NOT_SHOWN
    phi = found.phi
    out = [_row("phi", n, phi.value, phi.low, phi.high, _p(found.breadth), said(verdict))]
    out.append(_row("phi, side of one half", n, phi.value, phi.low, phi.high, np.nan, said(found.side)))
    for name, effects in (("breadth", found.breadth), ("number", found.number), ("D - A", found.gain)):
        out.append(_mean(name, effects))
    out += [_mean(name, values[x] - values[y]) for name, (x, y) in _EFFECTS.items() if name != "D - A"]
    for column, title in COMPANIONS.items():
        if column != outcome:
            other = factorial(units(rows, column, arms, paired=paired), plan.words)
            low, high, p = other.phi.low, other.phi.high, _p(other.breadth)
            out.append(_row(f"phi, {title}", n, other.phi.value, low, high, p, said(other.verdict)))
    kinds = (("recall_kept", "kept kinds"), ("recall_withheld", "withheld kinds"))
    for column, title in kinds if rows["G"].nunique() == 1 else ():  # kinds of another grain are other images
        side = units(rows, column, arms, paired=paired)
        out += [_mean(f"{name}, {title}", side[x] - side[y]) for name, (x, y) in _EFFECTS.items() if len(side["A"]) > 1]
        if column == "recall_kept" and len(side["A"]) > 1:  # C adds images of kept kinds, D as many of the others
            ratio = fieller(side["D"] - side["A"], side["C"] - side["A"], 0.95)
            out.append(_row("transfer to kept kinds", len(side["A"]), ratio.value, ratio.low, ratio.high, np.nan, ""))
    for column in ("topk_ce_heldout", "topk_fe_heldout", "vendi_outside", "vendi_u", "coverage"):
        side = units(rows, column, arms, paired=paired)
        if len(side["A"]) > 1:
            out.append(_mean(f"breadth, {column}", ((side["B"] - side["A"]) + (side["D"] - side["C"])) / 2))
            out.append(_mean(f"number, {column}", ((side["C"] - side["A"]) + (side["D"] - side["B"])) / 2))
    return out


def _named_rows(plan: Plan, design: Design, contrast: Contrast, rows: Any, table: Any) -> list[dict[str, Any]]:
    """Return the row of a contrast that the plan names, with a t or, for a ratio, Fieller's interval at 95 %."""
    if not set(contrast.arms) <= set(rows["arm"]):
        return []
    values = units(rows, OUTCOME[design.name], contrast.arms, paired=unit_of(design) == 2)
    n = len(values[contrast.plus[0]])
    if n < 2:
        return []

    def mean(arms: tuple[str, ...]) -> Any:
        return np.mean([values[arm] for arm in arms], axis=0) if arms else 0.0

    effect = mean(contrast.plus) - mean(contrast.minus)
    over = n + lost_units(plan, design, table, contrast.arms)
    forbidden = forbids(plan, design, rows, contrast.arms, over)
    if forbidden.startswith(UNFINISHED):
        return [_row(contrast.name, n, np.nan, np.nan, np.nan, np.nan, forbidden)]
    if not contrast.per_plus:
        return [_mean(contrast.name, effect) | {"verdict": forbidden}]
    unit = (mean(contrast.per_plus) - mean(contrast.per_minus)) / contrast.per
    ratio = fieller(effect, unit, 0.95)
    return [_row(contrast.name, n, ratio.value, ratio.low, ratio.high, _p(effect), forbidden)]


def forbids(plan: Plan, design: Design, rows: Any, arms: Sequence[str], over: int) -> str:
    """Return what forbids a verdict, or nothing: units that are still to come, or an arm that is not fitted.

    Args:
        plan: The preregistration.
        design: The design.
        rows: Rows with a result.
        arms: The arms that are compared.
        over: Units that are complete or lost.
    """
    planned = len(design.cuts) // unit_of(design)
    if over < planned:
        return f"{UNFINISHED}: {over} of {planned} units"
    fitted = rows[rows["arm"].isin(list(arms))].groupby("arm")["train_recall"].mean()
    if (fitted < plan.words.gate).any():
        return f"{NOT_MEASURABLE}: arm {fitted.idxmin()} is not fitted (training recall {fitted.min():.2f})"
    return ""


def unit_of(design: Design) -> int:
    """Return how many cuts make a unit: 2 where a cut manipulates half of the classes."""
    return 2 if design.name == "longtailed" else 1


def lost_units(plan: Plan, design: Design, table: Any, arms: Sequence[str]) -> int:
    """Return how many units can never be complete: a run of one of the arms failed as often as it may, or was refused.

    A variant loses those of the main design's arms that it needs, too.

    Args:
        plan: The preregistration.
        design: The design.
        table: Rows of the data set.
        arms: Those that are compared; a unit that lost another arm is complete.
    """
    lost: set[int] = set()
    for one in (design, *mains_of(plan, design)):
        rows = of_plan(table, plan, one)
        ours = (one is design) | ~rows["arm"].isin(list(design.arms))
        rows = rows[ours & rows["cut"].isin(design.cuts) & rows["arm"].isin(list(arms))]
        failures = rows[rows["status"] == FAILED].groupby(["arm", "cut"]).size()
        done = set(zip(*(rows.loc[rows["status"] == OK, key] for key in ("arm", "cut")), strict=True))
        lost |= {cut for (arm, cut), times in failures.items() if times >= ATTEMPTS and (arm, cut) not in done}
        refused = set(zip(*(rows.loc[rows["status"] == REFUSED, key] for key in ("arm", "cut")), strict=True))
        lost |= {cut for arm, cut in refused - done}
    return len({cut // unit_of(design) for cut in lost})


def manipulated_latently(rows: Any, *, paired: bool) -> bool:
    """Return whether breadth raised the rarefied top-K CE and FE of held-out images: both 95 % intervals above 0."""
    for column in ("topk_ce_heldout", "topk_fe_heldout"):
        side = units(rows, column, FACTORIAL, paired=paired)
        effect = ((side["B"] - side["A"]) + (side["D"] - side["C"])) / 2
        if len(effect) < 2 or not t_interval(effect.tolist())[0] > 0:
            return False
    return True


def _p(effects: np.ndarray) -> float:
    return sign_flip_p(effects.tolist())


def _mean(name: str, effects: np.ndarray) -> dict[str, Any]:
    lo, hi = t_interval(effects.tolist())
    return _row(name, len(effects), float(effects.mean()), lo, hi, _p(effects), "")


def _row(name: str, n: int, effect: float, lo: float, hi: float, p: float, verdict: str) -> dict[str, Any]:
    return {"contrast": name, "effect": effect, "lo": lo, "hi": hi, "p": p, "n": n, "verdict": verdict}

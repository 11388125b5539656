"""What a comparison may conclude: differences from a baseline, classes helped and hurt, and what is no result."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from divaug.base.errors import ConfigError, suggestion
from divaug.base.metrics import nanmean
from divaug.base.stats import (
    equivalence_p,
    holm,
    runs_needed,
    sign_flip_interval,
    sign_flip_p,
    spread,
    t_interval,
    t_p,
)  # fmt: skip
from divaug.base.text import one_line, span

METRICS = {"test_bal_acc": "bal", "test_prior_corrected_bal_acc": "prior-corr."}
RECALL = "recall_"  # columns of classes
LEVEL = 0.05
RUNS = 3  # pairs of runs with which a difference is judged at all: the t interval of two is 18 standard errors wide
MOST = 10_000  # runs; of more it is not said how many
COLLAPSED = "no result: a network predicts one class"
FEW = 8  # methods of which each gets lines of its own
FITTED = 90.0  # % of its own tail's training images that a network should recognise before methods are compared


def baseline_of(methods: Sequence[str], asked: str | None = None) -> str:
    """Return the method that others are compared with: the one asked for, else erm, else the first.

    Raises:
        ConfigError: There is no such method.
    """
    if asked is None:
        return "erm" if "erm" in methods else methods[0]
    if asked not in methods:
        raise ConfigError(f"--baseline {asked}: no run of it; {suggestion(asked, methods)}")
    return asked


def contrasts(table: Any, *, baseline: str | None = None, named: Sequence[str] = (), margin: float = 1.0) -> Any:
    """Return a DataFrame with a row for every metric and method that is compared with the baseline.

    A run is paired with the baseline's of the same seed, which has the same cut. All numbers are in points.

    Args:
        table: One row per run: ``method``, ``seed``, the metrics as shares, and ``recall_<class>``.
        baseline: A method; None is erm, or the first where there is no erm.
        named: The methods whose differences are tested; none are all. Holm's correction is over these, for each metric.
        margin: The largest difference, in points, that does not matter.

    Returns:
        Columns ``metric``, ``method``, ``baseline``, ``n`` (pairs), ``difference`` (mean), ``low`` and ``high`` (95 % t
        interval, each alone), ``flip_low`` and ``flip_high`` (sign-flip interval, infinite below six pairs), ``p`` (t
        test), ``p_flip``, ``p_holm`` (of ``p``), ``p_equivalence`` (two one-sided t tests at the margin),
        ``p_equivalence_holm``, ``runs_1`` and ``runs_2`` (pairs that find a difference of 1 and 2 points in four of
        five cases, by one test alone), ``helped`` and ``hurt`` (classes whose recall's own t interval lies above or
        below 0), ``verdict`` (of the corrected p). There is no verdict from fewer than three pairs, or where a run that
        is paired predicts one class; such methods are in no correction. Where runs split the same images anew
        (``overlap_of``), t tests and intervals allow for it, and there are no sign-flip ones.

    Raises:
        ConfigError: A method has no run, or the margin is not above 0.

    Example:
        >>> import pandas as pd
        >>> from divaug.report.contrasts import contrasts
        >>> runs = {"erm": [0.60, 0.62, 0.61], "cmo": [0.65, 0.68, 0.66]}
        >>> rows = [(method, seed, share) for method, shares in runs.items() for seed, share in enumerate(shares)]
        >>> found = contrasts(pd.DataFrame(rows, columns=["method", "seed", "test_bal_acc"]))
        >>> found[["method", "n", "verdict"]].values.tolist(), found["difference"].round(1).tolist()
        ([['cmo', 3, 'better']], [5.3])
    """
    import pandas as pd

    if not (margin > 0 and math.isfinite(margin)):
        raise ConfigError(f"--margin must be above 0, in points, got {margin:g}")
    methods = list(dict.fromkeys(table["method"]))
    if not methods:
        return pd.DataFrame()
    base = baseline_of(methods, baseline)
    check_named(methods, named, base)
    classes = [column for column in table if column.startswith(RECALL)]
    useless, overlap = _useless(table, base), overlap_of(table)
    rows = []
    for metric in [metric for metric in METRICS if metric in table]:
        found = []
        for method in dict.fromkeys(named) or [method for method in methods if method != base]:
            paired = paired_differences(table, metric, method, base)
            low, high = t_interval(paired, overlap=overlap)
            flips = [] if overlap else paired  # the signs of runs that overlap are not independent
            flip_low, flip_high = sign_flip_interval(flips)
            sd = spread(paired)
            runs = [runs_needed(sd, points, overlap=overlap) if sd > 0 else math.nan for points in (1.0, 2.0)]
            by_class = [paired_differences(table, column, method, base) for column in classes]
            moved = [t_interval(values, overlap=overlap) for values in by_class if spread(values) > 0]
            found.append({
                "metric": metric, "method": method, "baseline": base, "n": len(paired),
                "difference": float(np.mean(paired)) if paired else math.nan, "low": low, "high": high,
                "flip_low": flip_low, "flip_high": flip_high, "p": t_p(paired, overlap=overlap),
                "p_flip": sign_flip_p(flips), "p_holm": math.nan,
                "p_equivalence": equivalence_p(paired, margin, overlap=overlap), "p_equivalence_holm": math.nan,
                "runs_1": runs[0], "runs_2": runs[1],
                "helped": sum(low > 0 for low, _ in moved), "hurt": sum(high < 0 for _, high in moved),
            })  # fmt: skip
        judged = [row for row in found if row["n"] >= RUNS and row["method"] not in useless]
        for name, corrected in (("p", "p_holm"), ("p_equivalence", "p_equivalence_holm")):
            for row, p in zip(judged, holm([row[name] for row in judged]), strict=True):
                row[corrected] = p
        for row in found:
            row["verdict"] = COLLAPSED if row["method"] in useless else _verdict(row, margin)
        rows += found
    return pd.DataFrame(rows)


def _useless(table: Any, base: str) -> set[str]:
    """Return the methods of which a run that is paired, or the baseline's of the same seed, predicts one class."""
    if "test_predicted_classes" not in table:
        return set()
    one = table[table["test_predicted_classes"] == 1]
    paired, collapsed = (each.groupby("method")["seed"].agg(set).to_dict() for each in (table, one))
    ours, lost = paired.get(base, set()), collapsed.get(base, set())
    return {
        method for method, seeds in paired.items()
        if (collapsed.get(method, set()) | (lost if method != base else set())) & seeds & ours
    }  # fmt: skip


def overlap_of(table: Any) -> float:
    """Return test images over the others where runs split the same images anew, else 0; see ``stats.t_interval``.

    Where only a cut of the others is trained on, which shares less, that is more than there is to allow for.

    Args:
        table: As for ``contrasts``, with ``test_part`` (digest of the test images) and ``test_frac`` (share of one's
            own images that is carved off for testing).
    """
    if not {"test_part", "test_frac"} <= set(table) or table["test_part"].nunique() < 2:
        return 0.0
    share = float(table["test_frac"].mean())
    return share / (1 - share)


def check_named(methods: Sequence[str], named: Sequence[str], base: str) -> None:
    """Make sure that there are runs of the methods whose differences are to be tested.

    Raises:
        ConfigError: There are none of one.
    """
    for name in named:
        if name not in methods or name == base:
            others = [method for method in methods if method != base]
            raise ConfigError(f"--contrasts {name}: no run of it beside {base}; {suggestion(name, others)}")


def paired_differences(table: Any, column: str, method: str, base: str) -> list[float]:
    """Return the differences of a column in points over the seeds that both methods have, by seed; NaN are left out."""
    methods, seeds, values = (table[key].to_numpy() for key in ("method", "seed", column))
    ours, theirs = (dict(zip(seeds[methods == name], values[methods == name], strict=True)) for name in (method, base))
    paired = [100 * (float(ours[seed]) - float(theirs[seed])) for seed in sorted(ours.keys() & theirs.keys())]
    return [value for value in paired if not math.isnan(value)]


def _verdict(row: dict[str, Any], margin: float) -> str:
    """Return what a difference shows, in words that need no number beside them."""
    small = row["p_equivalence_holm"] < LEVEL
    if row["n"] < RUNS:
        return "these runs cannot tell"
    if row["p_holm"] < LEVEL:
        return ("better" if row["difference"] > 0 else "worse") + (f", by less than {margin:g}" if small else "")
    return f"within {margin:g} of it" if small else "these runs cannot tell"


def lines_of(found: Any) -> list[str]:
    """Return the differences as lines of text.

    Args:
        found: What ``contrasts`` returned.
    """
    if not len(found):
        return []
    tests = corrected_for(found)
    over = f"verdicts by t tests corrected for {tests} methods (Holm)" if tests > 1 else "verdict by a t test"
    over = over if tests else "no verdict: too few pairs, no spread, or networks that predict one class"
    base = found["baseline"].iloc[0]
    if found["method"].nunique() > FEW:
        lines = [f"Differences from {base} in points over seeds; {over}. Intervals are in the report."]
        return lines + [f"  {line}" for line in by_verdict(found)] + resting_on_normality(found)
    lines = [f"Differences from {base} in points, with 95 % t intervals over seeds, each alone; {over}:"]
    lines += [f"  {row.method}, {METRICS[row.metric]}: {_line(row)}" for row in found.itertuples()]
    return lines + resting_on_normality(found)


def corrected_for(found: Any) -> int:
    """Return the number of tests that each is corrected for: those of one metric that may give a verdict."""
    return int(found.groupby("metric")["p_holm"].count().max())


def resting_on_normality(found: Any) -> list[str]:
    """Say which verdicts a test without the normal distribution could not give, whatever the differences are."""
    tests = corrected_for(found)
    judged = [row for row in found.itertuples() if not math.isnan(row.p_holm)]
    if any(math.isnan(row.p_flip) for row in judged):
        return ["Verdicts rest on normal differences: for runs that split the same images there is no other test."]
    needed = next(n for n in range(1, 99) if tests * 2 / 2**n < LEVEL)
    if not (few := [row.n for row in judged if row.n < needed]):
        return []
    methods = f" of {tests} methods" if tests > 1 else ""
    said = (
        f"Verdicts from {span(few)} pairs rest on normal differences: the sign-flip test{methods}, which does without"
    )
    return [f"{said}, needs {needed} pairs."]


def by_verdict(found: Any) -> list[str]:
    """Return a line for every metric and verdict, with its methods from the best difference to the worst."""
    lines = []
    for metric, rows in found.groupby("metric", sort=False):
        for verdict, members in rows[rows["n"] > 0].groupby("verdict", sort=True):
            ordered = members.sort_values("difference", ascending=False).itertuples()
            each = ", ".join(f"{row.method} {row.difference:+.1f}" for row in ordered)
            lines.append(f"{METRICS[metric]}, {verdict}: {each}")
    return lines


def _line(row: Any) -> str:
    if not row.n:
        return "no pair of runs with the same seed has this number: these runs cannot tell"
    mean = f"{row.difference:+.1f}"
    if row.n < 2:
        return f"{mean} in one run each: these runs cannot tell; give --seeds 0-4"
    if math.isnan(row.p):  # networks that learned nothing, most often
        return f"{mean} in all {row.n} runs, without any spread: these runs cannot tell"
    alone = f" (alone p = {row.p:.2g}, corrected {row.p_holm:.2g})" if row.p < LEVEL <= row.p_holm else ""
    said = f"{mean} [{row.low:+.1f}, {row.high:+.1f}], n = {row.n}: {row.verdict}{alone}"
    return f"{said}; {_needed(row)}" if row.n >= RUNS else said


def _needed(row: Any) -> str:
    """Say how many runs would find 1 and 2 points."""
    runs = {1: row.runs_1, 2: row.runs_2}
    if math.isnan(row.p_flip) and (never := [str(points) for points, n in runs.items() if n >= MOST]):
        least = f"alone, 2 points need about {row.runs_2:,.0f} runs; " if len(never) == 1 else ""
        return f"{least}no number of splits of these images finds {' or '.join(never)}"
    needed = " and ".join(f"{n:,.0f}" if n < MOST else "10,000 or more" for n in runs.values())
    return f"alone, 1 and 2 points need about {needed} runs"


def helped_and_hurt(table: Any, base: str, shown: int = 3) -> list[str]:
    """Say for every method which classes have a higher or lower mean recall than with the baseline, in points.

    Of fewer than three pairs of runs nothing is said. Means alone are compared: nothing of it is tested.

    Args:
        table: As for ``contrasts``.
        base: The baseline.
        shown: Classes that are named, those that moved most.
    """
    classes = [column for column in table if column.startswith(RECALL)]
    lines = []
    for method in [method for method in dict.fromkeys(table["method"]) if method != base]:
        paired = {column: paired_differences(table, column, method, base) for column in classes}
        known = {column: values for column, values in paired.items() if len(values) >= RUNS}
        change = {one_line(column.removeprefix(RECALL)): np.mean(values) for column, values in known.items()}
        if not change:
            continue
        parts = []
        for word, sign in (("better", 1), ("worse", -1)):
            moved = sorted(
                (name for name in change if sign * change[name] > 0.05), key=lambda name: -sign * change[name]
            )
            most = ", ".join(f"{name} {change[name]:+.1f}" for name in moved[:shown])
            parts.append(f"{word} in {len(moved)}" + (f" ({most})" if most else ""))
        lines.append(f"{method} against {base}, mean test recall of classes: {'; '.join(parts)}.")
    return lines


def unfinished(table: Any) -> list[str]:
    """Say which networks are no result, as they predict one class, and which may have been trained too briefly."""
    notes, low = [], not_trained(table)
    classes = [column for column in table if column.startswith(RECALL)]
    if "test_predicted_classes" in table:
        for _, run in table[table["test_predicted_classes"] == 1].iterrows():
            found = [column.removeprefix(RECALL) for column in classes if run[column] > 0]
            name = f" ({one_line(found[0])})" if found else ""
            notes.append(f"{run['method']}, seed {run['seed']}, predicts one class{name}: that is no result.")
    if low:
        shown = ", ".join(f"{method} {int(share)}" for method, share in low.items())
        notes.append(
            f"Perhaps too few epochs: methods that recognise less than {FITTED:.0f} % of their own training images of "
            f"the tail ({shown}). More --epochs can change the order."
        )
    return notes


def not_trained(table: Any) -> dict[str, float]:
    """Return the methods whose networks do not recognise nine tenths of their own tail's training images: that share.

    In %, mean over runs. Too few epochs are one reason; a head that favours large classes is another.
    """
    if "train_clean_acc_tail" not in table:
        return {}
    shares = {
        method: 100 * nanmean(runs["train_clean_acc_tail"].to_numpy(dtype=float))
        for method, runs in table.groupby("method", sort=False)
    }
    return {method: share for method, share in shares.items() if share < FITTED}

"""Which method? A guide and a card for every method, written from rows of results and from the code alone."""

import math
from collections.abc import Mapping
from typing import Any

from divaug.base.stats import spread, t_interval
from divaug.config import layers
from divaug.report.cards import about, components_of
from divaug.report.compare import Asked, Comparison, compare_rows, tuning_of
from divaug.report.comparison_page import methods_of
from divaug.report.contrasts import LEVEL, METRICS, not_trained, paired_differences, unfinished
from divaug.report.document import Document, plain

CUTS = 3  # runs of a method with which a difference is judged at all
BASE = "erm"
SHOWN = ("bal", "prior-corr.", "head", "mid", "tail", "worst")
_RAW, _CORRECTED = METRICS
_GROUPS = {"head": "test_acc_head", "mid": "test_acc_mid", "tail": "test_acc_tail"}
_FEW = f"Fewer than {CUTS} cuts, so nothing is concluded"
_UNKNOWN = f"These runs cannot tell it from `{BASE}`"
# What the verdicts on balanced accuracy, raw and with corrected class priors, mean together; the best first.
_KINDS = {
    ("better", "better"): f"Better than `{BASE}`, with corrected class priors too",
    ("better", ""): f"Better than `{BASE}` in balanced accuracy; with corrected class priors no gain is shown",
    ("better", "worse"): f"Better than `{BASE}` in balanced accuracy, and worse with corrected class priors",
    ("", "better"): f"Better than `{BASE}` with corrected class priors only",
    ("worse", "better"): f"Worse than `{BASE}` in balanced accuracy, and better with corrected class priors",
    ("within", "within"): f"Within a point of `{BASE}`, with corrected class priors too",
    ("", ""): _UNKNOWN,
    ("", "worse"): f"Worse than `{BASE}` with corrected class priors only",
    ("worse", ""): f"Worse than `{BASE}` in balanced accuracy; with corrected class priors no loss is shown",
    ("worse", "worse"): f"Worse than `{BASE}`, with corrected class priors too",
}
Verdicts = Mapping[str, Mapping[str, Any]]
Costs = Mapping[str, tuple[float, float, float]]


def write_guide(document: Document, rows: Any, costs: Costs, *, measured: str = "", tuning: Any = None) -> None:
    """Add the guide to a document: what the rows show, a table that can be sorted, and a card for every method.

    Rows of several protocols or data sets are several guides, one after another; those without ``erm`` are left out.

    Args:
        document: Where it goes.
        rows: What ``results.read`` returned.
        costs: For methods, the time of a training step relative to that of ``erm``, with its quartiles.
        measured: The machine that the costs were measured on.
        tuning: What ``read_tuning`` returned of the file beside the rows.
    """
    rows = rows[rows.groupby(["experiment", "protocol", "data"])["method"].transform(lambda own: (own == BASE).any())]
    for comparison in compare_rows(rows, Asked(baseline=BASE), tuning) if len(rows) else ():
        _write(document, comparison, costs, measured, tuning)


def _write(document: Document, comparison: Comparison, costs: Costs, measured: str, tuning: Any) -> None:
    table, found, early = comparison.table, comparison.contrasts, not_trained(comparison.table)
    verdicts: dict[str, dict[str, Any]] = {metric: {} for metric in METRICS}
    for row in found.itertuples():
        verdicts[str(row.metric)][str(row.method)] = row
    methods = sorted(dict.fromkeys(table["method"]), key=lambda m: -table[table["method"] == m][_RAW].mean())
    document.text(f"{plain(comparison.head)}. {' '.join(tuning_of(methods, tuning))} A cut is a run of its own seed: "
                  "its own training images and class order.")  # fmt: skip
    document.heading("What these runs show")
    kinds = {method: _kind(method, verdicts) for method in methods if method != BASE}
    document.bullets([
        f"{kind}: {', '.join(f'`{method}`' for method in methods if kinds.get(method) == kind)}"
        for kind in (*_KINDS.values(), _FEW) if kind in kinds.values()
    ])  # fmt: skip
    notes = unfinished(table)
    if BASE in early:
        notes.append(f"{BASE} is one of them, so that every difference from it may be another with more epochs.")
    if notes:
        document.bullets([plain(note) for note in notes])
    document.heading("All methods")
    document.text(
        "Test recall in % at the last epoch: mean over cuts, with a 95 % t interval. *prior-corr.* is balanced "
        "accuracy after a cross-fitted correction of the class priors: a method that only moved a threshold has no "
        f"more of it than `{BASE}`. *cost* is the time of a training step relative to `{BASE}`, without what is done "
        f"between epochs, in later phases or after training{f' ({plain(measured)})' if measured else ''}."
    )
    document.table(_wide(methods, methods_of(table), costs), sortable=True)
    for method in methods:
        _card(document, method, table, kinds, costs)


def _kind(method: str, verdicts: Verdicts) -> str:
    """Return what the two verdicts mean together; few cuts are no ground for any."""
    rows = [row for metric in (_RAW, _CORRECTED) if (row := verdicts[metric].get(method)) and row.n >= CUTS]
    if len(rows) < 2:
        return _FEW
    raw, corrected = (row.verdict.replace(",", "").split()[0] for row in rows)
    if raw == corrected == "within":
        return _KINDS[raw, corrected]
    clear = [word if word in ("better", "worse") else "" for word in (raw, corrected)]
    return _KINDS[clear[0], clear[1]]


def _wide(methods: list[str], numbers: Any, costs: Costs) -> Any:
    import pandas as pd

    rows = []
    for method in methods:
        own = numbers[numbers["method"] == method].set_index("metric")
        cells: dict[str, Any] = {"method": method, "cuts": int(own["runs"].max())}
        for metric in (metric for metric in SHOWN if metric in own.index):
            mean, low, high, runs = own.loc[metric, ["mean", "low", "high", "runs"]]
            cells[metric] = _interval(mean, *((low, high) if runs >= CUTS else (math.nan, math.nan)))
        rows.append({**cells, "cost": _cost(costs[method]) if method in costs else "-"})
    return pd.DataFrame(rows)


def _cost(cost: tuple[float, float, float]) -> str:
    """Return a relative cost, where the rounds that it was measured in agree that it is none of 1."""
    value, low, high = cost
    return "1" if low <= 1 <= high else f"{value:.2f}"


def _card(document: Document, method: str, table: Any, kinds: Mapping[str, str], costs: Costs) -> None:
    """Add what a method is, what to expect of it, and when to use it."""
    document.heading(plain(method))
    known = layers.names("methods")
    if method in known:
        document.text(f"{known[method][0].upper()}{known[method][1:]}.")
        document.bullets([about(family, name) for family, name in components_of(method)])
        document.code(f"python -m divaug.recipes.cifar_lt --method {method}")
    document.bullets([*_expected(method, table, costs), *_advice(method, table, kinds)])


def _expected(method: str, table: Any, costs: Costs) -> list[str]:
    own, parts = table[table["method"] == method], []
    shown = {"balanced accuracy": _RAW, "with corrected priors": _CORRECTED, "tail": _GROUPS["tail"]}
    for title, column in shown.items():
        values = (100 * own[column].dropna()).tolist() if column in own else []
        if values:
            ends = t_interval(values) if len(values) >= CUTS else (math.nan, math.nan)  # of two it tells nothing
            parts.append(f"{title} {_interval(sum(values) / len(values), *ends)}")
    lines = [f"Expected ({len(own)} {'cut' if len(own) == 1 else 'cuts'}): {', '.join(parts)}."]
    if method in costs and method != BASE and (cost := _cost(costs[method])) != "1":
        lines.append(f"Cost: {cost} times the step of `{BASE}`.")
    return lines


def _advice(method: str, table: Any, kinds: Mapping[str, str]) -> list[str]:
    """Return when to use a method and when not, as far as its intervals say; they hold for all cards together."""
    if method == BASE:
        return ["Use it as the baseline, and with corrected class priors where their shares in use are known."]
    kind, early = kinds[method], not_trained(table)
    if kind == _FEW:
        return [f"{_FEW}."]
    lines = [f"{kind}."]
    if low := {name: early[name] for name in (method, BASE) if name in early}:
        shown = " and ".join(f"`{name}` {share:.0f} %" for name, share in low.items())
        lines.append(f"Not trained to the end ({shown} of their tail's training images): more epochs may change it.")
    if kind == _KINDS["better", ""]:
        cheaper = f"`divaug posthoc RUN --method logit_adjustment` on finished `{BASE}` runs trains nothing: try it."
        lines.append(cheaper)
    tests = len(_GROUPS) * (table["method"].nunique() - 1)  # all that the cards look at
    for group, column in _GROUPS.items():
        paired = paired_differences(table, column, method, BASE) if column in table else []
        if len(paired) < CUTS or not spread(paired) > 0:
            continue
        low, high = t_interval(paired, confidence=1 - LEVEL / tests)
        span = _interval(sum(paired) / len(paired), low, high, signed=True)
        if low > 0:
            lines.append(f"For {group} classes: {span} points over `{BASE}`.")
        if high < 0:
            lines.append(f"Not where {group} classes matter most: they lose {span} points against `{BASE}`.")
    return lines


def _interval(mean: float, low: float, high: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if math.isnan(mean):
        return "-"
    return f"{mean:{sign}.1f}" if math.isnan(low) else f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"

"""Which method? A guide and a card for every method, written from rows of results and from the code alone."""

import math
from collections.abc import Mapping
from typing import Any

from divaug.base.stats import t_interval
from divaug.config import layers
from divaug.report.cards import about, components_of
from divaug.report.compare import Asked, compare_rows
from divaug.report.comparison_page import methods_of
from divaug.report.contrasts import LEVEL, METRICS, not_trained, paired_differences, unfinished
from divaug.report.document import Document, plain

CUTS = 3  # runs of a method with which a difference is judged at all
_RAW, _CORRECTED = METRICS
_GROUPS = {"head": "test_acc_head", "mid": "test_acc_mid", "tail": "test_acc_tail"}


def write_guide(document: Document, rows: Any, costs: Mapping[str, float]) -> None:
    """Add the guide to a document: what the rows show, a table that can be sorted, and a card for every method.

    Args:
        document: Where it goes.
        rows: What ``results.read`` returned, of one experiment with a method ``erm``.
        costs: For methods, the time of a training step relative to that of ``erm``.
    """
    (comparison,) = compare_rows(rows, Asked(baseline="erm"))
    table, found = comparison.table, comparison.contrasts
    verdicts = {
        metric: dict(zip(own["method"], own.itertuples(), strict=True)) for metric, own in found.groupby("metric")
    }
    methods = sorted(dict.fromkeys(table["method"]), key=lambda m: -table[table["method"] == m][_RAW].mean())
    document.text(f"{plain(comparison.head)}. Published defaults; nothing was tuned.")
    document.heading("What these runs show")
    document.bullets(_short(methods, verdicts, not_trained(table)))
    if notes := unfinished(table):
        document.bullets([plain(note) for note in notes])
    document.heading("All methods")
    document.text(
        "Test recall in % at the last epoch: mean over cuts, with a 95 % t interval. *prior-corr.* is balanced "
        "accuracy after a cross-fitted correction of the class priors: a method that only moved a threshold has no "
        "more of it than `erm`. *cost* is the time of a training step relative to `erm`, without what is done between "
        "epochs or after them."
    )
    numbers = methods_of(table)
    document.table(_wide(methods, numbers, costs), sortable=True)
    for method in methods:
        _card(document, method, table, verdicts, costs)


def _short(methods: list[str], verdicts: Mapping[str, Mapping[str, Any]], early: Mapping[str, float]) -> list[str]:
    """Return what is known, a line for each kind of method; few cuts are no ground for any."""
    kinds: dict[str, list[str]] = {}
    for method in methods:
        if method != "erm":
            kinds.setdefault(_kind(method, verdicts, early), []).append(f"`{method}`")
    return [f"{kind}: {', '.join(kinds[kind])}" for kind in _KINDS if kind in kinds]


_MORE = "Better than `erm`, with corrected class priors too"
_MOVED = "Better than `erm` in balanced accuracy; with corrected class priors these runs show no gain"
_OTHER = "Better than `erm` with corrected class priors only: correct the priors, or the gain is not seen"
_WORSE = "Worse than `erm`"
_EARLY = "Worse than `erm`, but not trained to the end here: more epochs may change that"
_UNKNOWN = "These runs cannot tell it from `erm`"
_FEW = f"Fewer than {CUTS} cuts, so nothing is concluded"
_KINDS = (_MORE, _MOVED, _OTHER, _WORSE, _EARLY, _UNKNOWN, _FEW)


def _kind(method: str, verdicts: Mapping[str, Mapping[str, Any]], early: Mapping[str, float]) -> str:
    raw, corrected = (verdicts[metric][method] for metric in (_RAW, _CORRECTED))
    if min(raw.n, corrected.n) < CUTS:
        return _FEW
    said = [row.verdict.split(",")[0] for row in (raw, corrected)]
    match said:
        case ["better", "better"]:
            return _MORE
        case ["better", _]:
            return _MOVED
        case [_, "better"]:
            return _OTHER
    if "worse" in said:
        return _EARLY if method in early else _WORSE
    return _UNKNOWN


def _wide(methods: list[str], numbers: Any, costs: Mapping[str, float]) -> Any:
    import pandas as pd

    wanted = {
        "bal": "balanced",
        "prior-corr.": "prior-corr.",
        "head": "head",
        "mid": "mid",
        "tail": "tail",
        "worst": "worst",
    }
    rows = []
    for method in methods:
        own = numbers[numbers["method"] == method].set_index("metric")
        cells: dict[str, Any] = {"method": method, "cuts": int(own["runs"].max())}
        for metric in wanted:
            if metric in own.index:
                mean, low, high = own.loc[metric, ["mean", "low", "high"]]
                cells[metric] = _interval(mean, *((low, high) if cells["cuts"] >= CUTS else (math.nan, math.nan)))
        rows.append({**cells, "cost": f"{costs[method]:.2f}" if method in costs else "-"})
    return pd.DataFrame(rows)


def _card(
    document: Document, method: str, table: Any, verdicts: Mapping[str, Mapping[str, Any]], costs: Mapping[str, float]
) -> None:
    """Add what a method is, what to expect of it, and when to use it."""
    document.heading(plain(method))
    known = layers.names("methods")
    if method in known:
        document.text(f"{known[method][0].upper()}{known[method][1:]}.")
        document.bullets([about(family, name) for family, name in components_of(method)])
        document.code(f"python -m divaug.recipes.cifar_lt --method {method}")
    own = table[table["method"] == method]
    document.bullets([*_expected(method, own, table, costs), *_advice(method, table, verdicts)])


def _expected(method: str, own: Any, table: Any, costs: Mapping[str, float]) -> list[str]:
    parts = []
    for title, column in {
        "balanced accuracy": _RAW,
        "with corrected priors": _CORRECTED,
        "tail": _GROUPS["tail"],
    }.items():
        values = (100 * own[column].dropna()).tolist()
        if values:
            ends = t_interval(values) if len(values) >= CUTS else (math.nan, math.nan)  # of two it tells nothing
            parts.append(f"{title} {_interval(sum(values) / len(values), *ends)}")
    lines = [f"Expected ({len(own)} {'cut' if len(own) == 1 else 'cuts'}): {', '.join(parts)}."]
    if method in costs and method != "erm":
        lines.append(f"Cost: {costs[method]:.2f} times the step of `erm`.")
    return lines


def _advice(method: str, table: Any, verdicts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return when to use a method and when not, as far as its intervals say; they hold for all cards together."""
    if method == "erm":
        return ["Use it as the baseline, and with corrected class priors where their shares in use are known."]
    kind = _kind(method, verdicts, not_trained(table))
    if kind == _FEW:
        return [f"{_FEW}."]
    lines = [f"{kind}."]
    if kind == _MOVED:
        lines.append(
            "Correcting the priors of finished `erm` runs (`divaug posthoc RUN`) trains nothing: try it first."
        )
    tests = len(_GROUPS) * (table["method"].nunique() - 1)  # all that the cards look at
    for group, column in _GROUPS.items():
        paired = paired_differences(table, column, method, "erm")
        low, high = t_interval(paired, confidence=1 - LEVEL / tests)
        mean = sum(paired) / len(paired) if paired else math.nan
        if low > 0:
            lines.append(f"For {group} classes: {_interval(mean, low, high, signed=True)} points over `erm`.")
        if high < 0:
            lines.append(f"Not where {group} classes matter: {_interval(mean, low, high, signed=True)} points.")
    return lines


def _interval(mean: float, low: float, high: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if math.isnan(mean):
        return "-"
    return f"{mean:{sign}.1f}" if math.isnan(low) else f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"

"""Which method? A guide and a card for every method, written from rows of results and from the code alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from divaug.base.stats import spread, t_interval
from divaug.config import layers
from divaug.report.cards import about, components_of
from divaug.report.compare import Asked, Comparison, compare_rows, varied_of
from divaug.report.comparison_page import methods_of
from divaug.report.contrasts import (
    LEVEL,
    METRICS,
    RUNS,
    corrected_for,
    not_trained,
    overlap_of,
    paired_differences,
    resting_on_normality,
    unfinished,
)
from divaug.report.document import Document, plain
from divaug.report.tuning import tuning_of

BASE = "erm"
COST = 0.05  # a relative cost nearer to 1 is not told from it
SHOWN = ("bal", "prior-corr.", "head", "mid", "tail", "worst")
_RAW, _CORRECTED = METRICS
_GROUPS = {"head": "test_acc_head", "mid": "test_acc_mid", "tail": "test_acc_tail"}
_FEW = f"Fewer than {RUNS} runs shared with `{BASE}`, so nothing is concluded"
_MISSING = "Balanced accuracy is missing, raw or with corrected class priors, so nothing is concluded"
_COLLAPSED = f"A run of it or of `{BASE}` predicts one class, so nothing is concluded"
# What the verdicts on balanced accuracy, raw and with corrected class priors, mean together; the best first.
_RAW_WORDS = {
    "better": f"Better than `{BASE}` in balanced accuracy{{r}}", "within": f"Within a point of `{BASE}`",
    "": f"Not told apart from `{BASE}`", "worse": f"Worse than `{BASE}` in balanced accuracy{{r}}",
}  # fmt: skip
_CORRECTED_WORDS = {
    "better": "better with corrected class priors{c}", "within": "within a point of it with corrected class priors",
    "": "not told apart with corrected class priors", "worse": "worse with corrected class priors{c}",
}  # fmt: skip
_KINDS = {
    (raw, corrected): f"{_RAW_WORDS[raw]}; {_CORRECTED_WORDS[corrected]}"
    for raw, corrected in (
        ("better", "better"), ("better", "within"), ("better", ""), ("better", "worse"), ("within", "better"),
        ("", "better"), ("worse", "better"), ("within", "within"), ("within", ""), ("", "within"), ("", ""),
        ("within", "worse"), ("", "worse"), ("worse", "within"), ("worse", ""), ("worse", "worse"),
    )
} | {
    ("better", "better"): f"Better than `{BASE}`{{r}}, with corrected class priors too{{c}}",
    ("better", ""): f"Better than `{BASE}` in balanced accuracy{{r}}; with corrected class priors no gain is shown",
    ("within", "within"): f"Within a point of `{BASE}`, with corrected class priors too",
    ("", ""): f"Not told apart from `{BASE}` by these runs",
    ("worse", ""): f"Worse than `{BASE}` in balanced accuracy{{r}}; with corrected class priors no loss is shown",
    ("worse", "worse"): f"Worse than `{BASE}`{{r}}, with corrected class priors too{{c}}",
}  # fmt: skip
_MOVED = [list(_KINDS).index(("better", corrected)) for corrected in ("within", "")]  # what a moved threshold may give
Verdicts = Mapping[str, Mapping[str, Any]]
Costs = Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Kind:
    """What is concluded of a method.

    Attributes:
        text: In words, without a full stop.
        rank: Its place in a list of all, the best first.
        judged: Whether anything is concluded.
    """

    text: str
    rank: int
    judged: bool = True


def write_guide(
    document: Document, rows: Any, costs: Costs, *, command: str, measured: str = "", tuning: Any = None
) -> None:
    """Add the guide to a document: what the rows show, a table that can be sorted, and a card for every method.

    Rows of several protocols or data sets are several guides, one after another; those without ``erm`` are left out.

    Args:
        document: Where it goes.
        rows: What ``results.read`` returned.
        costs: For methods, the time of a training step relative to that of ``erm``, with the least and the most of all
            rounds that it was measured in.
        command: The command that the rows are of; a card adds method and preset.
        measured: The machine that the costs were measured on.
        tuning: What ``read_tuning`` returned of the file beside the rows.
    """
    rows = rows[rows.groupby(["experiment", "protocol", "data"])["method"].transform(lambda own: (own == BASE).any())]
    for comparison in compare_rows(rows, Asked(baseline=BASE), tuning) if len(rows) else ():
        _write(document, comparison, costs, command, measured, tuning)


def _write(document: Document, comparison: Comparison, costs: Costs, command: str, measured: str, tuning: Any) -> None:
    table, found, early = comparison.table, comparison.contrasts, not_trained(comparison.table)
    verdicts: dict[str, dict[str, Any]] = {metric: {} for metric in METRICS}
    for row in found.itertuples():
        verdicts[str(row.metric)][str(row.method)] = row
    means = table.groupby("method")[_RAW].mean().fillna(-math.inf)
    methods = sorted(dict.fromkeys(table["method"]), key=lambda method: -means[method])
    if "preset" in table:
        document.heading(f"Preset {table['preset'].iloc[0]}")
    document.text(f"{plain(comparison.head)}. {' '.join(tuning_of(table, tuning))} {varied_of(table)}")
    document.heading("What these runs show")
    kinds = {method: _kind(method, table, verdicts) for method in methods if method != BASE}
    if any(kind.judged for kind in kinds.values()):
        tested, rest = corrected_for(found), resting_on_normality(found)
        document.text(
            "Two verdicts on each method, on balanced accuracy as it is and with corrected class priors: paired t "
            f"tests at {100 * LEVEL:g} % over seeds, corrected for the {tested} methods that have one (Holm), each "
            "metric by itself: where no method differs, up to one such table in ten has a false verdict on one of the "
            f"two. *Within a point* is shown by two one-sided t tests, corrected alike. {' '.join(rest)}"
        )
    document.bullets([
        f"{kind.text}: {', '.join(f'`{method}`' for method in methods if kinds.get(method) == kind)}"
        for kind in sorted(set(kinds.values()), key=lambda kind: (kind.rank, kind.text))
    ])  # fmt: skip
    notes = unfinished(table)
    if BASE in early:
        notes.append(f"{BASE} is one of them, so every difference from it may change with more epochs.")
    if notes:
        document.bullets([plain(note) for note in notes])
    document.heading("All methods")
    document.text(
        "Test recall in % at the last epoch: mean over runs, with a 95 % t interval. *prior-corr.* is balanced "
        "accuracy after a cross-fitted correction of the class priors: a method that only moved a threshold has no "
        f"more of it than `{BASE}`. Its one number, tau, is fitted on the other half of the test images: it compares "
        f"methods, and is no accuracy to expect in use. *cost* is the time of a training step relative to `{BASE}`, "
        "without what is done between epochs or in later phases"
        f"{f' ({plain(measured)})' if measured else ''}; 1 where it is within {100 * COST:g} % of it, "
        "and *unsure* where the rounds of the measurement do not agree on which side it is."
    )
    document.table(_wide(methods, methods_of(table), costs), sortable=True)
    for method in methods:
        _card(document, method, table, kinds, costs, command)


def _kind(method: str, table: Any, verdicts: Verdicts) -> Kind:
    """Return what the two verdicts mean together; few runs, and networks that are no result, are no ground for any."""
    last = len(_KINDS)
    own, theirs = (table[table["method"] == name].set_index("seed") for name in (method, BASE))
    shared = own.index.intersection(theirs.index)
    if "test_predicted_classes" in table and any(
        (runs.loc[shared, "test_predicted_classes"] == 1).any() for runs in (own, theirs)
    ):
        return Kind(_COLLAPSED, last, judged=False)
    if len(shared) < RUNS:
        return Kind(_FEW, last + 2, judged=False)
    rows = [row for metric in (_RAW, _CORRECTED) if (row := verdicts[metric].get(method)) and row.n >= RUNS]
    if len(rows) < 2:
        return Kind(_MISSING, last + 1, judged=False)
    words = [row.verdict.replace(",", "").split()[0] for row in rows]
    words = [word if word in _RAW_WORDS else "" for word in words]
    raw, corrected = (" by less than a point" if "by less than" in row.verdict else "" for row in rows)
    both = words[0], words[1]
    return Kind(_KINDS[both].format(r=raw, c=corrected), list(_KINDS).index(both))


def _wide(methods: list[str], numbers: Any, costs: Costs) -> Any:
    import pandas as pd

    rows = []
    for method in methods:
        own = numbers[numbers["method"] == method].set_index("metric")
        cells: dict[str, Any] = {"method": method, "runs": int(own["runs"].max())}
        for metric in (metric for metric in SHOWN if metric in own.index):
            mean, low, high, runs = own.loc[metric, ["mean", "low", "high", "runs"]]
            cells[metric] = _interval(mean, *((low, high) if runs >= RUNS else (math.nan, math.nan)))
        rows.append({**cells, "cost": _cost(costs[method]) if method in costs else "-"})
    return pd.DataFrame(rows)


def _cost(cost: tuple[float, float, float]) -> str:
    """Return a relative cost: 1 where it is near to 1, unsure where its rounds are on both sides of 1."""
    value, least, most = cost
    return "1" if abs(value - 1) < COST else f"{value:.2f}{' (unsure)' if least <= 1 <= most else ''}"


def _card(document: Document, method: str, table: Any, kinds: Mapping[str, Kind], costs: Costs, command: str) -> None:
    """Add what a method is, what to expect of it, and when to use it."""
    document.heading(plain(method))
    known = layers.names("methods")
    if method in known:
        document.text(f"{known[method][0].upper()}{known[method][1:]}.")
        document.bullets([about(family, name) for family, name in components_of(method)])
        presets = table["preset"].unique() if "preset" in table else ()
        document.code(f"{command} --method {method}{f' --preset {presets[0]}' if len(presets) == 1 else ''}")
    document.bullets([*_expected(method, table, costs), *_advice(method, table, kinds)])


def _expected(method: str, table: Any, costs: Costs) -> list[str]:
    own, parts, overlap = table[table["method"] == method], [], overlap_of(table)
    shown = {"balanced accuracy": _RAW, "with corrected priors": _CORRECTED, "tail": _GROUPS["tail"]}
    for title, column in shown.items():
        values = (100 * own[column].dropna()).tolist() if column in own else []
        if values:
            ends = (
                t_interval(values, overlap=overlap) if len(values) >= RUNS else (math.nan, math.nan)
            )  # two tell nothing
            parts.append(f"{title} {_interval(sum(values) / len(values), *ends)}")
    lines = [f"Expected ({len(own)} {'run' if len(own) == 1 else 'runs'}): {', '.join(parts)}."]
    if method in costs and method != BASE and (cost := _cost(costs[method])) != "1":
        lines.append(f"Cost: {cost} times the step of `{BASE}`.")
    return lines


def _advice(method: str, table: Any, kinds: Mapping[str, Kind]) -> list[str]:
    """Return when to use a method and when not, as far as its intervals say; they hold for all cards together."""
    if method == BASE:
        return ["Use it as the baseline, and with corrected class priors where the class shares in use are known."]
    kind, early = kinds[method], not_trained(table)
    lines = [f"{kind.text}."]
    if not kind.judged:
        return lines
    if low := {name: early[name] for name in (method, BASE) if name in early}:
        shown = " and ".join(f"`{name}` recognises {int(share)} %" for name, share in low.items())
        lines.append(f"Perhaps too few epochs ({shown} of its tail's training images): more epochs may change this.")
    if kind.rank in _MOVED:
        cheaper = (
            f"`divaug posthoc RUN --method logit_adjustment` (tau 1) on finished `{BASE}` runs trains nothing: try it."
        )
        lines.append(cheaper)
    tests = len(_GROUPS) * sum(one.judged for one in kinds.values())  # all that the cards look at
    for group, column in _GROUPS.items():
        paired = paired_differences(table, column, method, BASE) if column in table else []
        if len(paired) < RUNS or not spread(paired) > 0:
            continue
        low, high = t_interval(paired, confidence=1 - LEVEL / tests, overlap=overlap_of(table))
        span = _interval(sum(paired) / len(paired), low, high, signed=True)
        if low > 0:
            lines.append(f"For {group} classes: {span} points over `{BASE}`.")
        if high < 0:
            lines.append(f"Not where {group} classes matter most: {span} points against `{BASE}`.")
    return lines


def _interval(mean: float, low: float, high: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if math.isnan(mean):
        return "-"
    return f"{mean:{sign}.1f}" if math.isnan(low) else f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"

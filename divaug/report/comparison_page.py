"""The files of a comparison: a page with tables that can be sorted, the same as Markdown, CSVs, and figures."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.files import make_folder, write_text
from divaug.base.groups import GROUPS, rank_groups
from divaug.base.metrics import nanmean
from divaug.base.stats import t_interval
from divaug.latent.rarefaction import ceiling
from divaug.report.compare import Comparison, columns_of, rarefied_size, varied_of
from divaug.report.contrasts import (
    METRICS,
    MOST,
    by_verdict,
    corrected_for,
    helped_and_hurt,
    overlap_of,
    resting_on_normality,
    unfinished,
)
from divaug.report.document import Document, plain

_CAPTIONS = {
    "recall_by_class": "Test recall per class: mean over seeds, of up to eight methods ± sd.",
    "growth": "Distinct top-K CE of the views of each epoch, by group of classes.",
    "accuracy_diversity": "Test recall against distinct top-K CE, one point per class.",
}


def write_report(folder: Path, comparison: Comparison) -> list[Path]:
    """Write a comparison's files and return them.

    They are ``table.txt`` (what is printed), ``comparison.html`` (self-contained) and ``comparison.md``,
    ``methods.csv`` (mean and interval of every metric), ``contrasts.csv`` (differences from the baseline) and figures.
    """
    make_folder(folder)
    printed, noticed = folder / "table.txt", _noticed(comparison)
    notes = "".join(f"\n- {note}" for note in noticed)
    write_text(printed, comparison.text + "\n" + (f"\nNoticed in the data:{notes}\n" if notes else ""))
    tables = folder / "methods.csv", folder / "contrasts.csv"
    methods_of(comparison.table).to_csv(tables[0], index=False, float_format="%.5g")
    comparison.contrasts.to_csv(tables[1], index=False, float_format="%.5g")
    figures = _figures(folder, comparison)
    document = Document("Methods compared")
    _write_page(document, comparison, noticed, figures)
    return [printed, *document.write(folder, "comparison"), *tables, *figures]


def methods_of(table: Any) -> Any:
    """Return a DataFrame with a row for every method and metric: runs, mean, 95 % t interval over seeds, sd.

    Recalls and other shares are in %.
    """
    import pandas as pd

    rows, overlap = [], overlap_of(table)
    for method, runs in table.groupby("method", sort=False):
        for title, (key, scale) in columns_of(table).items():
            values = scale * runs[key].dropna().to_numpy(dtype=float)
            low, high = t_interval(values.tolist(), overlap=overlap)
            rows.append({
                "method": method, "metric": title, "runs": len(values),
                "mean": float(values.mean()) if len(values) else math.nan, "low": low, "high": high,
                "sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _noticed(comparison: Comparison) -> list[str]:
    first = next(iter(comparison.runs.values()), None)
    return list(first[0].manifest.get("notes", ())) if first else []


def _write_page(document: Document, comparison: Comparison, noticed: list[str], figures: list[Path]) -> None:
    found, asked = comparison.contrasts, comparison.asked
    for line in comparison.head.splitlines():
        document.text(plain(line))
    base = str(found["baseline"].iloc[0]) if len(found) else ""
    if base:
        document.heading("What these runs show")
        document.bullets([plain(line) for line in by_verdict(found)])
        if notes := unfinished(comparison.table):
            document.bullets([plain(note) for note in notes])
    document.heading("Methods")
    if comparison.table["seed"].nunique() > 1:
        document.text(varied_of(comparison.table))
    document.text(
        "Test recall in % at the last epoch: mean over seeds and its 95 % t interval. *prior-corr.* is balanced "
        "accuracy after a cross-fitted correction of the class priors, so that a method that only moved a threshold is "
        "seen to have done so. Click a column's name to sort by it."
    )
    document.table(_wide(comparison), sortable=True)
    if base:
        document.heading(f"Differences from {plain(base)}")
        document.text(
            "In points, over runs of the same seed, which share their cut. The t interval is each method's alone; "
            "*sign-flip* assumes symmetry instead of a normal distribution and has no ends below six runs. *corrected "
            f"p* is the t test's after Holm's correction over the methods with a verdict ({corrected_for(found)}). "
            f"*p within {asked.margin:g}*, likewise corrected, is of two one-sided t tests: small where the difference "
            f"lies within {asked.margin:g} points. *runs for 1 point* find a difference of one point in four of five "
            "cases, by one test alone. *helped* and *hurt* count the classes whose recall's own t interval lies above "
            "or below 0."
        )
        document.table(_tests(found, asked.margin), sortable=True)
        for line in resting_on_normality(found):
            document.text(line)
        if lines := helped_and_hurt(comparison.table, base):
            document.heading("Classes")
            document.bullets([plain(line) for line in lines])
    if figures:
        document.heading("Figures")
    for file in figures:
        document.figure(file, _CAPTIONS.get(file.stem, file.stem))
    if noticed:
        document.heading("Noticed in the data")
        document.bullets([plain(note) for note in noticed])


def _wide(comparison: Comparison) -> Any:
    """Return the table of methods with a column for every metric."""
    import pandas as pd

    tall, found, rows = methods_of(comparison.table), comparison.contrasts, []
    moved = {w: dict(zip(found["method"], found[w], strict=True)) if len(found) else {} for w in ("helped", "hurt")}
    for method, numbers in tall.groupby("method", sort=False):
        cells = {"method": method, "runs": int(numbers["runs"].max())}
        for row in numbers.itertuples():
            cells[row.metric] = _interval(row.mean, row.low, row.high, digits=0 if row.metric == "seconds" else 1)
        for word in ("helped", "hurt"):
            cells[word] = moved[word].get(method, "-")
        rows.append(cells)
    return pd.DataFrame(rows)


def _runs(number: int | float) -> str:
    return "-" if math.isnan(number) else f"{number:,.0f}" if number < MOST else f"{MOST:,} or more"


def _tests(found: Any, margin: float) -> Any:
    """Return the contrasts with an interval in one column."""
    import pandas as pd

    return pd.DataFrame([
        {
            "metric": METRICS[row.metric], "method": row.method, "runs": row.n,
            "difference": _interval(row.difference, row.low, row.high, signed=True),
            "sign-flip": _ends(row.flip_low, row.flip_high), "p": row.p, "corrected p": row.p_holm,
            f"p within {margin:g}": row.p_equivalence_holm,
            "runs for 1 point": _runs(row.runs_1),
            "helped": row.helped, "hurt": row.hurt, "verdict": row.verdict,
        }
        for row in found.itertuples()
    ])  # fmt: skip


def _ends(low: float, high: float) -> str:
    if math.isnan(low):
        return "-"
    return "no ends" if math.isinf(low) else f"[{low:+.1f}, {high:+.1f}]"


def _interval(mean: float, low: float, high: float, *, digits: int = 1, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if math.isnan(mean):
        return "-"
    shown = f"{mean:{sign}.{digits}f}"
    return shown if math.isnan(low) else f"{shown} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _figures(folder: Path, comparison: Comparison) -> list[Path]:
    """Draw the figures of a comparison; rows of a CSV have none."""
    from divaug.figures.compare import Series, draw_comparison

    if not comparison.runs:
        return []
    first = next(iter(comparison.runs.values()))[0]
    m, config = rarefied_size(first.manifest), first.config
    most = ceiling(int(first.result["final/feature_dim"]), m, config.top_k) if config.monitor else 0
    manifests = {id(f): f.manifest for folders in comparison.runs.values() for f in folders}
    # Where seeds give the classes other sizes, a class is no axis: its rank by size is.
    ranked = len({manifest.get("class_order") for manifest in manifests.values()}) > 1
    orders = {key: np.argsort(-np.array(manifest["counts"]), kind="stable") for key, manifest in manifests.items()}
    series = []
    for label, folders in comparison.runs.items():
        logs = [f.metrics.rows() for f in folders]
        last = [log[-1]["per_class"] for log in logs]
        where = [orders[id(f)] if ranked else slice(None) for f in folders]
        recall = np.array([np.array(row["test/recall"], dtype=float)[w] for row, w in zip(last, where, strict=True)])
        rarefied = None
        if all(f"train_clean/rarefied_{m}" in row for row in last):
            values = [np.array(row[f"train_clean/rarefied_{m}"], dtype=float) for row in last]
            rarefied = np.array([of_run[w] for of_run, w in zip(values, where, strict=True)])
        groups = [rank_groups(np.array(manifests[id(f)]["group_counts"])) for f in folders]
        growth = {
            name: _growth_of(logs, [of_run[name] for of_run in groups], f"rarefied_{m}")
            for name in GROUPS if len(groups[0][name])
        }  # fmt: skip
        series.append(Series(label, recall, rarefied, growth))
    counts = [
        np.array(manifest["counts"])[orders[key] if ranked else slice(None)] for key, manifest in manifests.items()
    ]
    names = [f"rank {c + 1}" for c in range(len(counts[0]))] if ranked else first.manifest["class_names"]
    mean = np.mean(counts, axis=0).round().astype(int)
    return draw_comparison(folder, series, names, mean, m, most)


def _growth_of(logs: list[list[dict[str, Any]]], classes: list[np.ndarray], statistic: str) -> np.ndarray:
    """Return a group's mean of a statistic by seed and epoch, over plain views or, without any, over mixed ones."""
    curves = []
    for log, members in zip(logs, classes, strict=True):
        if f"views/{statistic}" not in log[-1]["per_class"]:
            return np.empty((0, 0))
        missing = [float("nan")] * len(log[-1]["per_class"][f"views/{statistic}"])
        for name in (statistic, f"{statistic}_mixed"):
            values = [np.array(row["per_class"].get(f"views/{name}", missing), dtype=float)[members] for row in log]
            if not np.isnan(values).all():
                break
        curves.append([nanmean(value) for value in values])
    return np.array(curves)

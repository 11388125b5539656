"""The report of ``divaug.study.buda``: verdicts, contrasts, and every cell's scores."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.stats import t_interval
from divaug.figures.arms import draw_arms
from divaug.report.document import Document, plain
from divaug.study.buda import SCORES, THRESHOLDED, Claim

FITTED = 90.0  # % of their own training images that the smallest classes should be recognised in
_NAMES = {"auc": "area under the ROC curves", "acc": "accuracy"}


def lines_of(contrasts: Any, claims: Sequence[tuple[Claim, str]]) -> list[str]:
    """Return the verdicts with their differences as lines of text."""
    lines = []
    for number, (claim, verdict) in enumerate(claims, start=1):
        lines.append(f"{number}. {claim.words}: {verdict}")
        lines += [f"   {_contrast(row)}" for row in contrasts[contrasts["claim"] == number].itertuples()]
    return lines


def _contrast(row: Any) -> str:
    names = [_name(name) for name in (row.ours, row.theirs)]
    if math.isnan(row.difference):
        return f"{names[0]} - {names[1]}, {row.score}: not run"
    span = "" if math.isnan(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]"
    p = "" if math.isnan(row.p_holm) else f", p = {row.p_holm:.2g}"
    return (
        f"{names[0]} - {names[1]}, {row.score}: {row.difference:+.2f}{span} points, n = {row.n}{p}; "
        f"of {row.cells} cells {row.cells_for} show it, {row.cells_against} the opposite"
    )


def _name(arm: str) -> str:
    return arm.replace(THRESHOLDED, " with thresholds")


def write_report(
    folder: Path, scores: Any, contrasts: Any, claims: Sequence[tuple[Claim, str]], command: str
) -> list[Path]:
    """Write ``report.md``, ``report.html``, ``contrasts.csv`` and the figure; return the files."""
    import pandas as pd

    document = Document("Buda et al. (2018), repeated narrowly")
    document.text(
        "The unit is a cut, with its own order of classes; a difference is the mean over all cells of one cut, in "
        "points of the multi-class area under the ROC curves (auc) or of accuracy (acc), on test images that are "
        "equally many in each class. Intervals are t intervals over cuts; p is corrected for all contrasts (Holm). A "
        "claim holds where every contrast of it has p below 0.05 in its direction. Last epoch, nothing chosen on test "
        "images."
    )
    document.heading("Verdicts")
    document.table(pd.DataFrame([{"conclusion": claim.words, "here": verdict} for claim, verdict in claims]))
    document.heading("Contrasts")
    for number, (claim, verdict) in enumerate(claims, start=1):
        document.text(f"*{claim.words}*: {verdict}")
        document.bullets([plain(_contrast(row)) for row in contrasts[contrasts["claim"] == number].itertuples()])
    document.heading("Every cell")
    document.text(
        "Mean and 95 % t interval over cuts. Verdicts of so few cuts rest on normal differences. *balanced* is one arm "
        "under both profiles where their totals agree, so not all cells are apart."
    )
    files, tables = [], {}
    for score in SCORES:
        known = scores[scores[score].notna()]
        tables[score] = known.groupby(["cell", "arm"], sort=False)[score].apply(list)
        shown = {
            cell: {_name(arm): _interval(values) for (_, arm), values in rows.items()}
            for cell, rows in tables[score].groupby(level="cell", sort=False)
        }
        document.text(f"{_NAMES[score][0].upper()}{_NAMES[score][1:]}, in %:")
        document.table(pd.DataFrame(shown).T.rename_axis("cell").reset_index())
    folder.mkdir(parents=True, exist_ok=True)
    files.append(draw_arms(folder / "cells.png", {score: tables[score] for score in SCORES}, _NAMES, _name))
    document.figure(files[-1], "Every arm in every cell: mean over cuts and t interval.")
    fitted = scores[scores["fitted"].notna()].groupby(["cell", "arm"], sort=False)["fitted"].mean()
    low = fitted[fitted < FITTED]
    if len(low):
        document.heading("Not trained to the end")
        document.text(f"Fewer than {FITTED:.0f} % of the training images of their smallest classes are recognised:")
        document.bullets([plain(f"{cell}, {_name(arm)}: {value:.0f} %") for (cell, arm), value in low.items()])
    document.heading("Again")
    document.code(command)
    pages = document.write(folder, "report")
    files.append(folder / "contrasts.csv")
    contrasts.to_csv(files[-1], index=False, float_format="%.5g")
    return [*pages, *files]


def _interval(values: Sequence[float]) -> str:
    low, high = t_interval(values)
    mean = sum(values) / len(values)
    return f"{mean:.1f}" if math.isnan(low) else f"{mean:.1f} [{low:.1f}, {high:.1f}]"

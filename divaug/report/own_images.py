"""The page of a model trained on one's own images: what to use, how good it is, and what it gets wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.files import make_folder
from divaug.figures import own_images as plots
from divaug.report.document import Document, plain

MISTAKES = 20


def write_page(
    folder: Path,
    *,
    title: str,
    conclusion: str,
    notes: Sequence[str],
    table: Any,
    compared: Any,
    matrix: np.ndarray,
    classes: Sequence[str],
    out_of_fold: Any,
    audit: Sequence[str],
) -> Path:
    """Write ``report/index.html`` (self-contained) and return it.

    Args:
        folder: The model folder.
        title: Of the page.
        conclusion: What to use and why.
        notes: What a reader must know of the result.
        table: One row per class: images, tested, recall and interval.
        compared: One row per candidate.
        matrix: Confusion of the winner's out-of-fold predictions.
        classes: Names.
        out_of_fold: The winner's predictions: path, label, predicted, probability.
        audit: Findings on the data.
    """
    report = make_folder(folder / "report")
    document = Document(title)
    document.text(f"{conclusion}.")
    if notes:
        document.bullets(list(notes))
    document.heading("How good for each class?")
    document.text("Recall of images that the network was not trained on (folds pooled), with Wilson 95 % intervals.")
    document.figure(plots.recalls(report / "recall.png", table), "Recall per class; in brackets, tested images.")
    document.table(table)
    document.heading("What is taken for what?")
    document.figure(plots.confusion(report / "confusion.png", matrix, classes), "Share of each class's images, in %.")
    wrong = out_of_fold[out_of_fold["predicted"] != out_of_fold["label"]]
    surest = wrong.sort_values("probability", ascending=False).head(MISTAKES)
    document.heading(f"The surest mistakes ({len(surest)} of {len(wrong)})")
    if len(surest) and "path" in surest:
        document.text("Look here for wrong labels.")
        pictures = plots.mistakes(report / "mistakes.png", surest)
        document.figure(pictures, "Label, prediction and its probability.")
        document.bullets([plain(f"{row.path}: {row.label}, predicted {row.predicted}") for row in surest.itertuples()])
    document.heading("Methods compared")
    document.table(compared)
    document.heading("The images")
    document.bullets([plain(line) for line in audit] or ["Nothing was found wrong."])
    _, page = document.write(report, "index")
    return page

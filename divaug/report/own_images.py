"""The page of a model trained on one's own images: what to use, how good it is, and what it gets wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DivaugError
from divaug.base.files import make_folder
from divaug.figures import own_images as plots
from divaug.report.document import Document, plain
from divaug.runs.decision import Decision
from divaug.runs.model_folder import contents
from divaug.runs.threshold import OperatingPoint, operating_point

MISTAKES = 20
CURVES = 4  # classes with an operating curve: those with a threshold, then the rarest


def out_of_fold(folder: Path, classes: Sequence[str]) -> Any:
    """Return a model folder's predictions of images that its folds did not train on, as a DataFrame.

    Raises:
        DivaugError: There are none, or they are of other classes.
    """
    import pandas as pd

    file = folder / "out_of_fold.csv"
    if not file.exists():
        raise DivaugError(f"{folder} has no out_of_fold.csv: thresholds need predictions of images not trained on")
    table = pd.read_csv(file, dtype={"label": str, "predicted": str, "group": str, "path": str}, keep_default_na=False)
    if missing := [f"p_{name}" for name in classes if f"p_{name}" not in table]:
        raise DivaugError(f"{file} lacks the column {missing[0]}: it is not of this model")
    return table


def write_page(folder: Path) -> Path:
    """Write ``report/index.html`` (self-contained) of a model folder from what is in the folder; return the page.

    Args:
        folder: A model folder with out-of-fold predictions, and ``report/augmentation.png`` if images were augmented.

    Raises:
        DivaugError: The folder is damaged.
    """
    import pandas as pd

    content = contents(folder)
    card, classes, decision = content["card"], content["classes"], Decision(**content["decision"])
    found, report = out_of_fold(folder, classes), make_folder(folder / "report")
    table = pd.DataFrame(card["classes"])
    document = Document(folder.name)
    document.text(f"{plain(card['conclusion'])}.")
    if card["notes"]:
        document.bullets([plain(note) for note in card["notes"]])
    document.heading("How good for each class?")
    document.text(
        "Recall of images that the network was not trained on (folds pooled), with Wilson 95 % intervals. Precision is "
        "the share of right ones among the images that are called the class. Judged: the class has 20 tested images."
    )
    document.figure(plots.recalls(report / "recall.png", table), "Recall per class; in brackets, tested images.")
    document.table(_readable_classes(table))
    document.heading("What is taken for what?")
    numbers = {name: c for c, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, (found["label"].map(numbers).to_numpy(), found["predicted"].map(numbers).to_numpy()), 1)
    document.figure(plots.confusion(report / "confusion.png", matrix, classes), "Share of each class's images, in %.")
    _mistakes(document, report, found)
    _operating(document, report, found, table, decision)
    document.heading("Methods compared")
    document.text("Mean recall of the judged classes, and its difference from the first method, in points.")
    document.table(pd.DataFrame(card["methods"]))
    if len(card["methods"]) > 1 and "recalls" in card:
        document.text("Recall of every class, in %:")
        document.table(pd.DataFrame(card["recalls"]))
    document.heading("The images")
    document.bullets([plain(line) for line in card.get("audit", [])] or ["Nothing was found wrong."])
    if (augmented := report / "augmentation.png").exists():
        document.text("What the network is shown: an image of the largest class and one of the smallest, and views.")
        document.figure(augmented, "First column: the image itself.")
    if card.get("latent"):
        document.heading("Latent diversity, for researchers")
        document.text(
            "Distinct top-K classification embeddings expected in m clean training images of a class, and the most "
            "that there can be. Compare classes at the same m only."
        )
        document.table(pd.DataFrame(card["latent"]))
    _, page = document.write(report, "index")
    return page


def _readable_classes(table: Any) -> Any:
    """Return the table of classes with an interval in one column: narrow enough for a phone."""
    import pandas as pd

    spans = [
        "-" if np.isnan(row.recall) else f"{row.recall:.1f} [{row.low:.0f}, {row.high:.0f}]"
        for row in table.itertuples()
    ]
    kept = {"class": table["class"], "images": table["images"]}
    if (table["images"] != table["tested"]).any():
        kept["tested"] = table["tested"]
    return pd.DataFrame({**kept, "recall %": spans, "precision %": table["precision"], "judged": table["judged"]})


def _mistakes(document: Document, report: Path, found: Any) -> None:
    wrong = found[found["predicted"] != found["label"]]
    surest = wrong.sort_values("probability", ascending=False).head(MISTAKES)
    document.heading(f"The surest mistakes ({len(surest)} of {len(wrong)})")
    if "path" in surest and len(surest := surest[[_readable(path) for path in surest["path"]]]):
        document.text("Look here for wrong labels.")
        document.figure(plots.mistakes(report / "mistakes.png", surest), "Label → prediction and its probability.")
        rows = enumerate(surest.itertuples(), start=1)
        document.bullets([plain(f"{n}: {row.path}, {row.label}, predicted {row.predicted}") for n, row in rows])


def _readable(path: str) -> bool:
    """Return whether an image can be shown: the folder may have been copied without the images."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            file.load()
    except (OSError, ValueError):
        return False
    return True


def _operating(document: Document, report: Path, found: Any, table: Any, decision: Decision) -> None:
    """Show sensitivity against false calls for classes with a threshold, and for the rarest classes."""
    rarest = table.loc[table["judged"], "class"].tolist()[::-1]  # the largest class is first
    names = list(dict.fromkeys([*decision.thresholds, *rarest]))[:CURVES]
    curves, lines = {}, []
    for name in names:
        positive, scores = (found["label"] == name).to_numpy(), found[f"p_{name}"].to_numpy(dtype=float)
        if positive.any() and not positive.all():
            called = (found["predicted"] == name).to_numpy()
            chosen = decision.thresholds.get(name)
            point = None if chosen is None else operating_point(scores, positive, chosen)
            if point is not None:
                lines.append(_said(name, point, decision.notes))
            curves[name] = plots.Curve(
                *_curve(scores, positive),
                (100 * float(called[~positive].mean()), 100 * float(called[positive].mean())),
                None if point is None else (100 * (1 - point.specificity[0]), 100 * point.sensitivity[0]),
            )
    if not curves:
        return
    document.heading("Where to set a threshold?")
    document.text(
        "Sensitivity against the share of other images that are called the class, out of fold. Dots: the most probable "
        "class is taken. `divaug threshold` moves a class along its curve."
    )
    document.figure(plots.operating(report / "operating.png", curves), "Diamonds: thresholds that are set.")
    if lines:
        document.bullets(lines)


def _said(name: str, point: OperatingPoint, notes: Mapping[str, str]) -> str:
    said = f" ({notes[name]})" if name in notes else ""
    shares = [
        f"{title} {100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        for title, (value, low, high) in (("sensitivity", point.sensitivity), ("specificity", point.specificity))
    ]
    return plain(f"{name} from a probability of {point.threshold:.4g}{said}: {', '.join(shares)}")


def _curve(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false calls and sensitivity in % at every threshold, from the highest."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are called together
    true, false = (np.cumsum(hits[order])[last] for hits in (positive, ~positive))
    return 100 * false / (~positive).sum(), 100 * true / positive.sum()

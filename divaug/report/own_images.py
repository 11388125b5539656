"""The page of a model trained on one's own images: what to use, how good it is, and what it gets wrong."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DivaugError
from divaug.base.files import make_folder
from divaug.config import layers
from divaug.data.image_files import upright_rgb
from divaug.figures import own_images as plots
from divaug.figures.confusion import confusion
from divaug.report.document import Document, plain
from divaug.report.operating import at, lines_of, scores_of, together
from divaug.runs.decision import Decision
from divaug.runs.model_folder import contents

MISTAKES = 20
SIDE = 160  # pixels of an image on the page, at most
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
    if "label_probability" not in table:  # a folder of long ago
        table["label_probability"] = [row[f"p_{row['label']}"] for row in table.to_dict("records")]
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
    document.text(plain(headline(card)))
    if card["notes"]:
        document.bullets([plain(note) for note in card["notes"]])
    document.heading("How good for each class?")
    document.text(
        "Recall of images that the network was not trained on (folds pooled), with Wilson 95 % intervals, in which "
        "images of one group (patient, slide) count as fewer, by how alike they are: *76 (as 9)*. Precision is the "
        "share of right ones among the images that are called the class. A class counts in the comparison of methods "
        "if 20 of its images were tested; its interval says how well its recall is known."
    )
    document.figure(plots.recalls(report / "recall.png", table), "Recall per class; in brackets, tested images.")
    document.table(_readable_classes(table))
    document.heading("What is taken for what?")
    ordered = table["class"].tolist()  # as above: the largest first
    numbers = {name: c for c, name in enumerate(ordered)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, (found["label"].map(numbers).to_numpy(), found["predicted"].map(numbers).to_numpy()), 1)
    document.figure(confusion(report / "confusion.png", matrix, ordered), "Share of each class's images, in %.")
    _mistakes(document, report, found, ordered, content["transform"]["bits"])
    _operating(document, report, found, table, decision, classes)
    document.heading("Methods compared")
    _methods(document, card)
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


def headline(card: Mapping[str, Any]) -> str:
    """Return the accuracy of out-of-fold predictions, beside the mean recall and what the largest class alone gives."""
    shares = card["accuracy"]
    used = next(row for row in card["methods"] if row["method"] == card["method"])
    known = _known(used["mean recall"])
    count = f"the {sum(row['judged'] for row in card['classes'])} of {len(card['classes'])} classes that count"
    mean = f"; mean recall of {count} {used['mean recall']:.1f} %" if known else ""
    return (
        f"{shares['accuracy']:.1f} % of {shares['images']:,} out-of-fold images are right (always saying "
        f"{shares['class']}: {shares['largest']:.1f} %){mean}."
    )


def counted_as(row: Mapping[str, Any]) -> str:
    """Return as how many independent images a class's tested ones count, in brackets; nothing where as all of them."""
    counted = row.get("counted", np.nan)  # cards of long ago lack it
    return f" (as {int(counted)})" if counted < 0.9 * row["tested"] else ""


def _readable_classes(table: Any) -> Any:
    """Return the table of classes with an interval in one column: narrow enough for a phone."""
    import pandas as pd

    kept = {"class": table["class"], "images": table["images"]}
    tested = [f"{row['tested']}{counted_as(row)}" for row in table.to_dict("records")]
    if table["images"].astype(str).tolist() != tested:
        kept["tested"] = tested
    for name, ends in (("recall", ("low", "high")), ("precision", ("precision_low", "precision_high"))):
        kept[f"{name} %"] = [
            "-" if np.isnan(value) else f"{value:.1f} [{low:.0f}, {high:.0f}]"
            for value, low, high in zip(*(table[column] for column in (name, *ends)), strict=True)
        ]
    return pd.DataFrame({**kept, "counts": table["judged"]})


def _methods(document: Document, card: Mapping[str, Any]) -> None:
    import pandas as pd

    first, *others = card["methods"]
    base, known = plain(first["method"]), layers.names("methods")
    document.bullets([plain(f"{row['method']}: {known.get(row['method'], 'your own')}") for row in card["methods"]])
    document.text(
        f"Mean recall of the classes that count, and its difference from {base}, in points. The "
        "same command with --methods NAME makes a model of another one."
    )
    document.table(pd.DataFrame({
        "method": [row["method"] for row in card["methods"]],
        "mean recall %": [_one(row["mean recall"]) for row in card["methods"]],
        "points": [_points(row) for row in card["methods"]],
    }))  # fmt: skip
    if not others:
        return
    document.text("Recall of every class, in %:")
    table = pd.DataFrame(card["recalls"])
    names = [row["method"] for row in card["methods"]]
    document.table(pd.DataFrame({"class": table["class"], **{name: table[name].map(_one) for name in names}}))
    document.text(
        f"Points of recall over {base}, per class that counts. Each interval holds with 95 % by "
        "itself: of twenty, one lies beside 0 by chance."
    )
    gains = pd.DataFrame(card["gains"])
    spans = {row["method"]: [_points(gain) for gain in gains[row["method"]]] for row in others}
    document.table(pd.DataFrame({"class": gains["class"], **spans}))


def _one(value: float | None) -> str:
    return f"{value:.1f}" if _known(value) else "-"


def _points(row: Mapping[str, Any]) -> str:
    if not all(_known(row[key]) for key in ("difference", "low", "high")):
        return f"{row['difference']:+.1f}" if _known(row["difference"]) else "-"
    return f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"


def _known(value: float | None) -> bool:
    """Return whether a number is defined; in a file one that is not is null."""
    return value is not None and not np.isnan(value)


def _mistakes(document: Document, report: Path, found: Any, ordered: Sequence[str], bits: int) -> None:
    """Show the surest mistakes, as the network sees them, and how many each class has."""
    import pandas as pd

    wrong = found[found["predicted"] != found["label"]]
    surest = wrong.sort_values("probability", ascending=False).head(MISTAKES)
    document.heading(f"The surest mistakes ({len(surest)} of {len(wrong)})")
    folder = make_folder(report / "mistakes")
    images = [_readable(path, bits) for path in surest["path"]] if "path" in surest else []
    drawn = [folder / f"{number:02d}.png" for number in range(1, len(surest) + 1)]
    if images and not any(images) and all(file.exists() for file in drawn):  # the model was copied without its images
        pictures = dict(enumerate(drawn))
    else:
        for old in folder.glob("*.png"):
            old.unlink()
        pictures = {at: plots.thumbnail(drawn[at], image, SIDE) for at, image in enumerate(images) if image is not None}
    if "path" in surest and pictures:
        paths = [os.path.abspath(path) for path in found["path"]]
        below = os.path.commonpath([os.path.dirname(path) for path in paths])
        document.text(f"Look here for wrong labels. Images are below {plain(below)}.")
        shown = []
        for number, row in enumerate(surest.itertuples(), start=1):
            own = 100 * row.label_probability
            caption = (
                f"{number}: {row.label}, predicted {row.predicted} ({100 * row.probability:.1f} %, "
                f"its label {own:.1f} %) {os.path.relpath(row.path, below)}"
            )
            if number - 1 in pictures:
                shown.append((pictures[number - 1], caption))
        document.gallery(shown)
    if len(wrong):
        document.text(
            "Mistakes per class. All of them are in `out_of_fold.csv`; its column label_probability, lowest first, is "
            "where wrong labels are."
        )
        rows = []
        for name in ordered:
            own, of_class = wrong[wrong["label"] == name], int((found["label"] == name).sum())
            taken = own["predicted"].value_counts()
            most = "" if own.empty else f"{taken.index[0]} ({taken.iloc[0]})"
            rows.append({"class": name, "mistakes": len(own), "of": of_class, "most often taken for": most})
        document.table(pd.DataFrame(rows))


def _readable(path: str, bits: int) -> Any:
    """Return an image in RGB; None if it cannot be shown: the folder may have been copied without the images."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return upright_rgb(file, bits)
    except (OSError, ValueError):
        return None


def _operating(
    document: Document, report: Path, found: Any, table: Any, decision: Decision, classes: Sequence[str]
) -> None:
    """Show sensitivity against false calls for classes with a threshold, and for the rarest classes."""
    ordered = table["class"].tolist()
    rarest = table.loc[table["judged"], "class"].tolist()[::-1]  # the largest class is first
    names = list(dict.fromkeys([*decision.thresholds, *rarest]))[:CURVES]
    curves, lines = {}, []
    for name in sorted(names, key=ordered.index):  # so that colours depend on the classes alone
        scores, positive = scores_of(found, name)
        if positive.any() and not positive.all():
            called = (found["predicted"] == name).to_numpy()
            chosen = decision.thresholds.get(name)
            point = None if chosen is None else at(found, name, chosen)
            if point is not None:
                lines.append(plain(", ".join(lines_of(found, decision, classes, name))))
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
    caption = "Diamonds: thresholds that are set, each alone." if lines else "No threshold is set."
    document.figure(plots.operating(report / "operating.png", curves), caption)
    if lines:
        document.bullets(lines)
    if more := together(found, decision, classes):
        document.text("All together:")
        document.bullets([plain(line) for line in more])


def _curve(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false calls and sensitivity in % at every threshold, from the highest."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are called together
    true, false = (np.cumsum(hits[order])[last] for hits in (positive, ~positive))
    return 100 * false / (~positive).sum(), 100 * true / positive.sum()

"""Predict new images with a trained model: one row per image in a CSV.

    divaug predict models/cells new_images/ -o predictions.csv
    divaug predict models/cells a.jpg b.png list.csv
    divaug predict models/cells slides.csv --path-column image_file -o predictions.csv

MODEL is a model folder or a run. IMAGES are files, folders (with what lies below them), or CSVs with a column path
(relative to the CSV; --path-column names another). Columns of the output: path; label, the most probable class, and its
probability; second, the next class; decision, which applies the model's thresholds and is empty where the model
abstains; unreadable, why a file cannot be read; p_<class>, the probability of every class.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, DataError
from divaug.base.files import file_digest
from divaug.config.command import Parser, add_trust
from divaug.config.command import main as run_main

_HEADER = b"path,label,probability"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug predict", __doc__)
        parser.add_argument("model", metavar="MODEL", help="model folder or run")
        parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, or CSVs with a column path")
        parser.add_argument("-o", "--output", metavar="CSV", help="where rows go (default: standard output)")
        parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="images at once (default: 256)")
        parser.add_argument("--path-column", default="path", metavar="NAME", help="of CSVs: the column of image files")
        add_trust(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments)
        from divaug.data.sources import is_table

        if chosen.batch_size < 1:
            raise ConfigError(f"--batch-size must be >= 1, got {chosen.batch_size}")
        if chosen.path_column != "path" and not any(is_table(Path(source)) for source in chosen.images):
            raise ConfigError("--path-column has no effect here; it is for CSVs")
        output = None if chosen.output is None else Path(chosen.output)
        if output is not None and not output.parent.is_dir():
            raise ConfigError(f"there is no folder {output.parent} for {output}")
        if output is not None and output.exists() and not _is_predictions(output):
            raise ConfigError(f"{output} is there and holds something else than predictions; name another file")
        return _predict(chosen.model, chosen.images, output, chosen.batch_size, chosen.path_column)

    return run_main("predict", argv, work)


def _predict(source: str, images: Sequence[str], output: Path | None, batch_size: int, column: str) -> int:
    from divaug.data.sources import image_paths
    from divaug.runs.load import load

    model, counts, unreadable, known = load(source), Counter[str](), 0, 0
    left_out = Counter[str]()
    files = image_paths(images, column=column, left_out=left_out)
    trained = _trained_on(Path(source))
    temporary = None if output is None else output.with_name(f".{output.name}.tmp")
    target: Any = (
        sys.stdout
        if temporary is None
        else temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    )
    try:
        for number, table in enumerate(model.stream(files, batch_size)):
            table.to_csv(target, index=False, header=number == 0, float_format="%.6g")
            bad = table["unreadable"] != ""
            unreadable += int(bad.sum())
            counts.update(table.loc[~bad, "decision"])
            known += sum(_digest(path) in trained for path in table["path"]) if trained else 0
        if not counts and not unreadable:
            raise DataError(f"no image at or below {', '.join(images)}")
        if output is not None and temporary is not None:
            target.close()
            temporary.replace(output)
    finally:
        if temporary is not None:
            target.close()
            temporary.unlink(missing_ok=True)
    said = ", ".join(f"{n} {name or 'abstained'}" for name, n in counts.most_common())
    print(f"{sum(counts.values())} images, by decision: {said or 'none'}; {unreadable} unreadable", file=sys.stderr)
    if left_out:
        shown, n = left_out.most_common(5), left_out.total()
        kinds = [f"{count} {kind}" for kind, count in shown]
        kinds += [f"{others} others"] if (others := n - sum(count for _, count in shown)) else []
        what = "1 file was" if n == 1 else f"{n} files were"
        print(f"note: {what} left out, as hidden or no image: {', '.join(kinds)}", file=sys.stderr)
    if thresholds := list(model.decision.thresholds):
        said = "decision is by them, label is the most probable class"
        print(f"note: thresholds of {', '.join(thresholds)} were applied; {said}", file=sys.stderr)
    for note in _hardly_tested(model.card):
        print(f"note: {note}", file=sys.stderr)
    if known:
        note = (
            f"note: the model was trained on {known} of these images (their files are identical): what it says of them "
            "is no measure of how good it is, out_of_fold.csv is"
        )
        print(note, file=sys.stderr)
    if output is not None:
        print(output)
    if not counts:
        raise DataError(f"none of the {unreadable} images can be read: the column unreadable says why")
    return 0


def _is_predictions(file: Path) -> bool:
    """Return whether a file may be written over: predictions, or nothing."""
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(len(_HEADER)) in (b"", _HEADER)


def _hardly_tested(card: Mapping[str, Any]) -> list[str]:
    """Return lines on the classes of a model that its folds tested on few images or on none."""
    rows = [row for row in card.get("classes", ()) if not row["judged"]]
    lines = []
    if never := [row["class"] for row in rows if row["tested"] == 0]:
        lines.append(f"classes never tested, so nothing is known of how well they are found: {', '.join(never)}")
    if hardly := [f"{row['class']} {round(row['recall'] * row['tested'] / 100)} of {row['tested']}"
                  for row in rows if row["tested"]]:  # fmt: skip
        lines.append(f"classes tested on few images; the folds found: {', '.join(hardly)}")
    return lines


def _trained_on(model: Path) -> set[str]:
    """Return the SHA-256 of the files that a model folder's network was trained on; none for a run."""
    import pandas as pd

    from divaug.runs.model_folder import TRAINED_ON

    file = model / TRAINED_ON
    return set(pd.read_csv(file, dtype=str)["sha256"]) if file.exists() else set()


def _digest(path: str) -> str:
    """Return the SHA-256 of a file, nothing of one that cannot be read: its row says so."""
    try:
        return file_digest(Path(path))
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())

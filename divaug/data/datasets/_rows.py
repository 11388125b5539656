"""One row per image, from a CSV or from a folder of class folders."""

import csv
from dataclasses import dataclass
from pathlib import Path

from divaug.base.errors import DataError, suggestion
from divaug.data.image_files import list_images

COLUMNS = {"path", "label", "split", "group", "source"}


@dataclass(frozen=True)
class Row:
    """One image: file, label, and, if known, its part, group and source."""

    path: Path
    label: str
    split: str = ""
    group: str = ""
    source: str = ""


def rows_of_csv(file: Path) -> list[Row]:
    """Return one row per image of a CSV with the columns path, label and optionally split, group, source.

    Raises:
        DataError: No such file, a missing or unknown column, an empty path or label, an unknown split.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = list(csv.DictReader(stream, restkey="", restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if not table:
        raise DataError(f"{file} has no rows")
    columns = set(table[0])
    if missing := {"path", "label"} - columns:
        raise DataError(f"{file} lacks the column {sorted(missing)[0]!r}; it needs the columns path and label")
    if unknown := sorted(columns - COLUMNS):
        raise DataError(f"{file} has an unknown column {unknown[0]!r}; {suggestion(unknown[0], COLUMNS)}")
    rows = []
    for number, line in enumerate(table, start=2):
        if not line["path"].strip() or not line["label"].strip():
            raise DataError(f"{file}, line {number}: empty {'path' if line['label'].strip() else 'label'}")
        split = line.get("split", "").strip()
        if split not in ("", "train", "test"):
            raise DataError(f"{file}, line {number}: split must be train or test, got {split!r}")
        path = file.parent / line["path"].strip()
        if not path.is_file():
            raise DataError(f"{file}, line {number}: no such image {path}")
        rows.append(
            Row(
                path,
                line["label"].strip(),
                split,
                line.get("group", "").strip(),
                line.get("source", "").strip(),
            )
        )
    return rows


def rows_of_folder(folder: Path) -> list[Row]:
    """Return one row per image of a folder of class folders; a folder's name is the label.

    Raises:
        DataError: No such folder, no class folder in it, or a class folder without images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise DataError(f"{folder} must hold one folder per class, at least two; found {len(classes)}")
    rows = []
    for place in classes:
        pictures = list_images(place)
        if not pictures:
            raise DataError(f"class folder {place} holds no image; remove it or fill it")
        rows += [Row(path, place.name) for path in pictures]
    return rows

import csv as csv_format
from pathlib import Path

import numpy as np

from divaug.data.datasets._own import Row, assemble, stated_test
from divaug.data.images import Dataset, Request
from divaug.errors import DataError, suggestion
from divaug.registry import DATASETS

COLUMNS = {"path", "label", "split", "group", "source"}


def rows_of_csv(file: Path) -> list[Row]:
    """Return a row a picture of a CSV with the columns path, label and optionally split, group, source.

    Raises:
        DataError: No such file, a missing or unknown column, an empty path or label, an unknown split.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = list(csv_format.DictReader(stream, restkey="", restval=""))
    except (OSError, UnicodeDecodeError, csv_format.Error) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    if not table:
        raise DataError(f"{file} has no rows")
    columns = set(table[0])
    if missing := {"path", "label"} - columns:
        raise DataError(f"{file} lacks the column {sorted(missing)[0]!r}; it needs path,label")
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
            raise DataError(f"{file}, line {number}: no such picture {path}")
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


@DATASETS.register("csv")
def csv(request: Request) -> Dataset:
    """Own pictures: a CSV with path,label and optionally split, group, source (--path).

    Paths are relative to the CSV. Test pictures come from --test, else from the column ``split``, else they are carved
    off, stratified and by whole groups.
    """
    if request.path is None:
        raise DataError("csv needs a path: the CSV file")
    file = Path(request.path)
    rows = rows_of_csv(file)
    test = stated_test(request)
    return assemble(request, rows, test, np.array([row.split == "test" for row in rows]))

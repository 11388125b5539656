"""One row per image, from a table: a CSV, or a list file of the field (``path label`` on each line)."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from divaug.base.errors import DataError
from divaug.data.audit import Finding
from divaug.data.images import Request

LISTS = (".txt", ".lst", ".list")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_PARTS = {
    "": "", "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_NO_LABEL = {"nan", "<na>", "#n/a", "n/a", "na", "nat", "null", "none", "?"}  # as pandas, R and spreadsheets write it


@dataclass(frozen=True)
class Row:
    """One image: file, label, and, if known, its part (train, val, test), group and source."""

    path: Path
    label: str
    split: str = ""
    group: str = ""
    source: str = ""


@dataclass(frozen=True)
class Listing:
    """The rows of a source, and what was noticed while they were listed."""

    rows: list[Row]
    findings: tuple[Finding, ...] = ()


def rows_of_table(file: Path, request: Request | None = None) -> Listing:
    """Return one row per image of a CSV or of a list file.

    A CSV has a header with the columns path and label, and optionally split, group and source, separated by commas,
    semicolons, tabs or bars; ``request`` may give them other names. A list file (.txt, .lst, .list) has a path and a
    label on each line. Paths are relative to ``request.data_root``, or to the file.

    Raises:
        DataError: No such file, a column that is missing, named twice or misspelt, a row with more or fewer cells than
            the header, an empty path or label, an unknown part, or files that do not exist; all with their lines.
    """
    request = request or Request()
    text = _text(file)
    rows, findings = _list_rows(file, text) if file.suffix.lower() in LISTS else _csv_rows(file, text, request)
    if not rows:
        raise DataError(f"{file} has no rows")
    root = Path(request.data_root) if request.data_root is not None else file.parent
    located = [(line, replace(row, path=_located(root, row.path))) for line, row in rows]
    _check_files(file, located)
    findings += _check_labels(file, located)
    return Listing([row for _, row in located], tuple(findings))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {file}: it is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read {file}: {error}") from error


def _list_rows(file: Path, text: str) -> tuple[list[tuple[int, Row]], list[Finding]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            path, _, label = line.strip().replace("\t", " ").rpartition(" ")
            if not path:
                raise DataError(f"{file}, line {number}: a list file has a path and a label on each line, got {line!r}")
            rows.append((number, Row(Path(path.strip()), label)))
    return rows, []


def _csv_rows(file: Path, text: str, request: Request) -> tuple[list[tuple[int, Row]], list[Finding]]:
    wanted = {
        "path": request.path_column, "label": request.label_column, "split": request.split_column,
        "group": request.group_column, "source": "source",
    }  # fmt: skip
    if "\0" in text:
        raise DataError(f"{file} has zero bytes in it: it is no text, or another encoding than UTF-8")
    lines = _cells(file, text, _separator(text, wanted))
    _, header = next(lines)
    place, findings = _columns(file, header, wanted, request)
    rows, unmarked = [], []
    for number, cells in lines:
        if len(cells) != len(header):
            more = f": {cells[len(header) :]} too many; quote a cell that has the separator in it"
            raise DataError(
                f"{file}, line {number}: {len(cells)} cells, but the header has {len(header)}"
                + (more if len(cells) > len(header) else "")
            )
        values = {role: cells[at].strip() for role, at in place.items()}
        for role in ("path", "label"):
            if not values[role]:
                raise DataError(f"{file}, line {number}: empty {wanted[role]}")
        split = values.get("split", "")
        if split.lower() not in _PARTS:
            raise DataError(f"{file}, line {number}: {wanted['split']} must be train, val or test, got {split!r}")
        if not split:
            unmarked.append(number)
        rows.append(
            (number, Row(Path(values["path"]), values["label"], _PARTS[split.lower()], values.get("group", ""),
                         values.get("source", "")))
        )  # fmt: skip
    if unmarked and len(unmarked) < len(rows):
        findings.append(Finding(
            "unmarked", f"{len(unmarked)} of {len(rows)} rows of {file.name} have an empty {wanted['split']} (line "
            f"{unmarked[0]} is the first): they are training images",
        ))  # fmt: skip
    return rows, findings


def _separator(text: str, wanted: dict[str, str]) -> str:
    """Return the separator with which the header has a column of paths and one of labels."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def hits(separator: str) -> int:
        names = {cell.strip().lower() for cell in next(csv.reader([first], delimiter=separator), [])}
        return sum(wanted[role].strip().lower() in names for role in ("path", "label"))

    return max(_SEPARATORS, key=hits)  # commas where none has either


def _cells(file: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of the line it begins on."""
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file}, line {begins}: {error}") from error


def _columns(
    file: Path, header: Sequence[str], wanted: dict[str, str], request: Request
) -> tuple[dict[str, int], list[Finding]]:
    """Return the position of each known column."""
    names = [cell.strip() for cell in header]
    folded = [name.lower() for name in names]
    place: dict[str, int] = {}
    for role, name in wanted.items():
        at = [i for i, known in enumerate(folded) if known == name.strip().lower()]
        if len(at) > 1:
            raise DataError(f"{file} has the column {name!r} {len(at)} times; keep one")
        if at:
            place[role] = at[0]
    found = f"found {', '.join(repr(name) for name in names)}"
    for role, name in wanted.items():
        stated = role in ("path", "label") or name != role  # what a flag names must be there
        if stated and role not in place:
            way = f"--{role}-column NAME names another" if role != "source" else ""
            raise DataError(f"{file} lacks the column {name!r}: {found}, separated by {_by(file)}; {way}")
    others = [name for i, name in enumerate(names) if i not in place.values()]
    index = [name for name in others if not name or re.fullmatch(r"unnamed: ?\d+", name.lower())]
    free = [wanted[role] for role in ("split", "group", "source") if role not in place]
    for name in others:
        if near := get_close_matches(name.lower(), free, n=1, cutoff=0.75):
            way = f" or give --{near[0]}-column {name}" if near[0] != "source" else ""
            raise DataError(f"{file} has an unknown column {name!r}; did you mean {near[0]!r}? Rename it{way}")
    findings = []
    if unused := [name for name in others if name not in index]:
        findings.append(Finding("columns", f"columns of {file.name} that are not used: {', '.join(unused)}"))
    if index:
        findings.append(Finding("columns", f"{file.name} has a column without a name, as an index has; it is not used"))
    return place, findings


def _by(file: Path) -> str:
    first = next((line for line in _text(file).splitlines() if line.strip()), "")
    used = [words for sign, words in _SEPARATORS.items() if sign in first]
    return " and ".join(used) or "nothing (one column)"


def _located(root: Path, path: Path) -> Path:
    """Return the file; a path written on Windows is understood elsewhere."""
    place = root / path
    if "\\" in str(path) and not place.is_file():
        return root / str(path).replace("\\", "/")
    return place


def _check_files(file: Path, rows: list[tuple[int, Row]]) -> None:
    missing = [(line, row.path) for line, row in rows if not row.path.is_file()]
    if missing:
        shown = "; ".join(f"line {line}: {path}" for line, path in missing[:5])
        more = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
        raise DataError(
            f"{file}: no such image in {len(missing)} of {len(rows)} rows: {shown}{more}; --data-root names the folder "
            "that paths start from"
        )


def _check_labels(file: Path, rows: list[tuple[int, Row]]) -> list[Finding]:
    """Refuse labels that stand for a missing value, and numbers written in two ways."""
    counts = Counter(row.label for _, row in rows)
    absent = [label for label in counts if label.lower() in _NO_LABEL]
    if refused := [label for label in absent if label.lower() not in ("none", "na")]:
        line = next(line for line, row in rows if row.label == refused[0])
        raise DataError(
            f"{file}, line {line}: label {refused[0]!r} stands for a missing value, in {counts[refused[0]]} rows; "
            "give these images a label, or drop them"
        )
    numbers: dict[float, str] = {}
    for label in counts:
        if re.fullmatch(r"[+-]?\d+(\.\d*)?", label):
            first = numbers.setdefault(float(label), label)
            if first != label:
                raise DataError(f"{file}: labels {first!r} and {label!r} are one number; write it in one way")
    return [
        Finding("missing_label", f"{counts[label]} images of {file.name} have the label {label!r}: it is taken for a "
                "class; if it means that the label is missing, drop these rows")
        for label in absent
    ]  # fmt: skip


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key by which numbers in a text count as numbers: class 2 comes before class 10."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((1, int(part), part) if i % 2 else (0, 0, part) for i, part in enumerate(parts))

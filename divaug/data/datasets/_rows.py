"""One row per image, from a table: a CSV, or a list file of the field (``path label`` on each line)."""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from divaug.base.errors import DataError
from divaug.data.audit import Finding, alike
from divaug.data.images import Request

LISTS = (".txt", ".lst", ".list")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_PARTS = {
    "": "", "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_NO_VALUE = {"nan", "<na>", "#n/a", "n/a", "na", "nat", "null", "none", "?"}  # as pandas, R and spreadsheets write it


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
    rows, findings = _list_rows(file, text, request) if file.suffix.lower() in LISTS else _csv_rows(file, text, request)
    if not rows:
        raise DataError(f"{file} has no rows")
    root = Path(request.data_root) if request.data_root is not None else file.parent
    located = [(line, replace(row, path=_located(root, row.path))) for line, row in rows]
    if gone := _missing(file, located):
        if not request.audited or len(gone.files) == len(located):
            raise DataError(gone.text)
        findings.append(gone)
        absent = set(gone.files)
        located = [(line, row) for line, row in located if row.path not in absent]
    findings += [*_check_labels(file, located), *_check_groups(file, [row for _, row in rows])]
    return Listing([_without_missing(row) for _, row in located], tuple(findings))


def paths_of_table(file: Path, column: str = "path") -> Iterator[Path]:
    """Yield the images that a table names in a column, there or not; other columns are passed over.

    Raises:
        DataError: It is no such table, or a row has no path; with its line.
    """
    text = _text(file)
    told = re.match(r"\s*sep=(.)\r?\n", text)
    separator = told[1] if told else _separator(text, {"path": column, "label": "label"})
    lines = _cells(file, text, separator, skip=1 if told else 0)
    _, header = next(lines, (0, []))
    names = [cell.strip().lower() for cell in header]
    wanted = column.strip().lower()
    if names.count(wanted) != 1:
        how = f"has no column {column!r}" if wanted not in names else f"has the column {column!r} twice"
        raise DataError(f"{file} {how}: found {', '.join(header) or 'nothing'} (--path-column names it)")
    at = names.index(wanted)
    for number, cells in lines:
        if at >= len(cells) or not cells[at].strip():
            raise DataError(f"{file}, line {number}: no path")
        yield _located(file.parent, Path(cells[at].strip()))


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {file}: it is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error


def _lines(text: str) -> list[str]:
    """Return the lines: only line feeds and carriage returns end one."""
    return re.split(r"\r\n|\r|\n", text)


def _list_rows(file: Path, text: str, request: Request) -> tuple[list[tuple[int, Row]], list[Finding]]:
    named = [f for f in ("path", "label", "group", "split") if getattr(request, f"{f}_column") != f]
    if named:
        raise DataError(f"{file} is a list file, which has no columns: --{named[0]}-column is for a CSV")
    rows = []
    for number, line in enumerate(_lines(text), start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition("\t" if "\t" in line.strip() else " ")
        if not path or path.rstrip().endswith((",", ";")):
            way = "; a table with commas must be named .csv" if {",", ";"} & set(line) else ""
            raise DataError(f"{file}, line {number}: a list file has a path and a label a line, got {line!r}{way}")
        rows.append((number, Row(Path(path.strip()), label.strip())))
    return rows, []


def _csv_rows(file: Path, text: str, request: Request) -> tuple[list[tuple[int, Row]], list[Finding]]:
    wanted = {
        "path": request.path_column, "label": request.label_column, "split": request.split_column,
        "group": request.group_column, "source": "source",
    }  # fmt: skip
    if "\0" in text:
        raise DataError(f"{file} has zero bytes in it: it is no text, or another encoding than UTF-8")
    told = re.match(r"\s*sep=(.)\r?\n", text)  # what spreadsheets write above the header
    lines = _cells(file, text, told[1] if told else _separator(text, wanted), skip=1 if told else 0)
    _, header = next(lines, (0, []))
    if not header:
        raise DataError(f"{file} has no rows")
    place, findings = _columns(file, header, wanted)
    rows, unmarked, blanks = [], [], []
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
        if cells[place["label"]] != values["label"]:
            blanks.append(number)
        rows.append(
            (number, Row(Path(values["path"]), values["label"], _PARTS[split.lower()], values.get("group", ""),
                         values.get("source", "")))
        )  # fmt: skip
    if blanks:
        which = "1 label" if len(blanks) == 1 else f"{len(blanks)} labels"
        text = f"{which} of {file.name} had blanks behind them, which were dropped (line {blanks[0]})"
        findings.append(Finding("blanks", text))
    if unmarked and len(unmarked) < len(rows):
        findings.append(Finding(
            "unmarked", f"{len(unmarked)} of {len(rows)} rows of {file.name} have an empty {wanted['split']} (line "
            f"{unmarked[0]} is the first): they are training images",
        ))  # fmt: skip
    return rows, findings


def _separator(text: str, wanted: dict[str, str]) -> str:
    """Return the separator with which the header has a column of paths and one of labels."""
    first = next((line for line in _lines(text) if line.strip()), "")

    def hits(separator: str) -> int:
        names = {
            cell.strip().lower() for cell in next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        }
        return sum(wanted[role].strip().lower() in names for role in ("path", "label"))

    return max(_SEPARATORS, key=hits)  # commas where none has either


def _cells(file: Path, text: str, separator: str, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of the line it begins on."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and begins > skip:
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file}, line {begins}: {error}") from error


def _columns(file: Path, header: Sequence[str], wanted: dict[str, str]) -> tuple[dict[str, int], list[Finding]]:
    """Return the position of each known column."""
    names = [cell.strip() for cell in header]
    folded = [name.lower() for name in names]
    place: dict[str, int] = {}
    roles = sorted(wanted, key=lambda role: wanted[role] == role)  # first those that a flag names
    for role in roles:
        name = wanted[role]
        at = [i for i, known in enumerate(folded) if known == name.strip().lower()]
        if len(at) > 1:
            raise DataError(f"{file} has the column {name!r} {len(at)} times; keep one")
        taken = next((other for other, i in place.items() if at == [i]), None)
        if taken is not None and (wanted[role] != role or role in ("path", "label")):
            raise DataError(f"{file}: the column {name!r} is named as {taken} and as {role}; it can be one of them")
        if at and taken is None:
            place[role] = at[0]
    found = f"found {', '.join(repr(name) for name in names)}"
    for role, name in wanted.items():
        stated = role in ("path", "label") or name != role  # what a flag names must be there
        if stated and role not in place:
            raise DataError(
                f"{file} lacks the column {name!r}: {found}, {_by(file)}; --{role}-column NAME names another"
            )
    others = [name for i, name in enumerate(names) if i not in place.values()]
    index = [name for name in others if not name or re.fullmatch(r"unnamed: ?\d+", name.lower())]
    free = [wanted[role] for role in ("split", "group", "source") if role not in place]
    for name in others:
        if near := get_close_matches(name.lower(), free, n=1, cutoff=0.8):
            way = f" or give --{near[0]}-column {name}" if near[0] != "source" else ""
            raise DataError(f"{file} has an unknown column {name!r}; did you mean {near[0]!r}? Rename it{way}")
    findings = []
    if unused := [name for name in others if name not in index]:
        findings.append(Finding("columns", f"columns of {file.name} that are not used: {', '.join(unused)}"))
    if index:
        findings.append(Finding("columns", f"{file.name} has a column without a name, as an index has; it is not used"))
    return place, findings


def _by(file: Path) -> str:
    first = next((line for line in _lines(_text(file)) if line.strip()), "")
    used = [words for sign, words in _SEPARATORS.items() if sign in first]
    return f"separated by {' and '.join(used)}" if used else "in one column"


def _located(root: Path, path: Path) -> Path:
    """Return the file; a path written on Windows, or with accents composed otherwise, is understood."""
    place, text = root / path, str(path)
    if _is_file(place):
        return place
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")] + [text.replace("\\", "/")]
    return next((root / form for form in forms if _is_file(root / form)), place)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, a closed folder, a zero byte
        return False


def _missing(file: Path, rows: list[tuple[int, Row]]) -> Finding | None:
    """Return a finding on the rows whose image is not there; None if all are."""
    missing = [(line, row.path) for line, row in rows if not _is_file(row.path)]
    if not missing:
        return None
    shown = "; ".join(f"line {line}: {str(path)[:300]}" for line, path in missing[:20])
    more = f" and {len(missing) - 20} others" if len(missing) > 20 else ""
    return Finding(
        "missing", f"{file}: no such image in {len(missing)} of {len(rows)} rows: {shown}{more}; --data-root names the "
        "folder that paths start from", tuple(path for _, path in missing),
    )  # fmt: skip


def _check_labels(file: Path, rows: list[tuple[int, Row]]) -> list[Finding]:
    """Refuse labels that stand for a missing value, and numbers written in two ways."""
    counts = Counter(row.label for _, row in rows)
    absent = [label for label in counts if label.lower() in _NO_VALUE]
    if refused := [label for label in absent if label.lower() not in ("none", "na")]:
        line = next(line for line, row in rows if row.label == refused[0])
        raise DataError(
            f"{file}, line {line}: label {refused[0]!r} stands for a missing value, in {counts[refused[0]]} rows; "
            "give these images a label, or drop them"
        )
    if one := one_number(counts):
        line = next(line for line, row in rows if row.label == one[1])
        raise DataError(f"{file}, line {line}: labels {one[0]!r} and {one[1]!r} are one number; write it in one way")
    return [
        Finding("missing_label", f"{counts[label]} images of {file.name} have the label {label!r}: it is taken for a "
                "class; if it means that the label is missing, drop these rows")
        for label in absent
    ]  # fmt: skip


def one_number(texts: Iterable[str]) -> tuple[str, str] | None:
    """Return two texts that write one number in two ways, or None."""
    numbers: dict[Decimal, str] = {}
    for text in texts:
        if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text) and len(text) < 1000:
            first = numbers.setdefault(Decimal(text), text)
            if first != text:
                return first, text
    return None


def _check_groups(file: Path, rows: list[Row]) -> list[Finding]:
    """Say where groups are missing, or look like one group written in two ways."""
    groups = Counter(row.group for row in rows if row.group and row.group.lower() not in _NO_VALUE)
    findings = []
    without = len(rows) - groups.total()
    if groups and without:
        text = f"{without} of {len(rows)} rows of {file.name} have no group: each of these images is a group of its own"
        findings.append(Finding("groups", text))
    pairs = [one] if (one := one_number(groups)) else []
    folded: dict[str, str] = {}
    pairs += [(first, name) for name in groups if (first := folded.setdefault(alike(name), name)) != name]
    if pairs:
        text = f"groups {pairs[0][0]!r} and {pairs[0][1]!r} of {file.name} look like one group written in two ways"
        findings.append(Finding("groups", f"{text}: its images can be on both sides of the split"))
    return findings


def _without_missing(row: Row) -> Row:
    return replace(row, group="") if row.group.lower() in _NO_VALUE else row


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key by which numbers in a text count as numbers: class 2 comes before class 10."""
    parts = re.split(r"([0-9]+)", text)
    # Python refuses to read numbers of more than 4,300 digits.
    return tuple((1, int(part[:999]), part) if i % 2 else (0, 0, part) for i, part in enumerate(parts))

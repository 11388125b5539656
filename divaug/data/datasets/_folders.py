"""One row per image, from a folder of class folders, or of parts with class folders in each."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from divaug.base.errors import DataError
from divaug.config.schema import TABLES
from divaug.data.audit import Finding
from divaug.data.datasets._rows import Listing, Row, natural
from divaug.data.image_files import SUFFIXES

_PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "holdout": "test", "eval": "eval", "evaluation": "eval",
}  # fmt: skip
_IMAGES = {"image", "images", "img", "imgs", "jpegimages"}
_TARGETS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "groundtruth", "gt", "segmentation",
    "segmentationclass", "segmentationobject",
}  # fmt: skip
_NO_IMAGES = {"thumbs.db", "desktop.ini"}  # what file managers leave behind


def rows_of_folder(folder: Path, *, audited: bool = False) -> Listing:
    """Return one row per image of a folder of class folders; a folder's name is the label.

    ``train``, ``val`` (or ``validation``) and ``test`` with class folders in each are recognised as parts, also as
    ``training_set`` or ``seg_train``.

    Args:
        folder: The folder.
        audited: Class folders without images are a finding, unless all are.

    Raises:
        DataError: No such folder, no class folder in it, a class folder without images, images beside their masks, or
            folders that look like parts but cannot be read so.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; read are folders of class folders, and tables: .csv .tsv .txt .lst .list")
    try:
        listing = _listing(folder)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
    empty = next((finding for finding in listing.findings if finding.kind == "empty"), None)
    if empty is not None and not (audited and listing.rows):
        raise DataError(empty.text)
    return listing


def _listing(folder: Path) -> Listing:
    places = _below(folder)
    _refuse_masks(folder, [place.name for place in places])
    parts = {place: part for place in places if (part := _part_of(place.name))}
    whole = len(parts) == len(places) and len(set(parts.values())) > 1
    if whole and "train" in parts.values() and "eval" not in parts.values():
        return _rows_of_parts(folder, parts)
    nested = [place for place in parts if len(_below(place)) > 1]
    if len(parts) > 1 or nested:
        named = ", ".join(sorted(place.name for place in (parts if len(parts) > 1 else nested)))
        raise DataError(
            f"{folder}: {named} look like parts of a data set, not like classes. Parts are train, val and test, and "
            "nothing beside them; rename or move folders so, name one part and give the other by --test, or write a CSV"
        )
    rows, walks = _rows_of_classes(folder, places, "")
    return Listing(
        rows, (*_beside(folder), *_empty(folder, places, walks), *_left_out(walks), *_deep(folder, rows, walks))
    )


def _part_of(name: str) -> str | None:
    """Return the part that a folder's name stands for, or None: ``train``, ``Training_set`` and ``seg_train``."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word not in ("", "set", "data", "images", "imgs")]
    words = [word.removesuffix("set") if word.removesuffix("set") in _PARTS else word for word in words]
    return _PARTS.get(words[-1]) if words and (len(words) == 1 or len(words) == 2) else None


def _refuse_masks(folder: Path, names: list[str]) -> None:
    folded = {re.sub(r"[^a-z]", "", name.lower()) for name in names}
    if folded & _IMAGES and folded & _TARGETS:
        raise DataError(
            f"{folder} holds {', '.join(names)}: images beside masks or annotations, as for segmentation or detection; "
            "divaug classifies images: sort them into one folder per class, or write a CSV with path,label"
        )


def _deep(folder: Path, rows: list[Row], walks: list["Walk"]) -> list[Finding]:
    """Say where images lie deeper than their class folder; refuse parts and masks there."""
    below = {place.name for found in walks for place in found.folders}
    _refuse_masks(folder, sorted(below))
    kinds = {part for name in below if (part := _part_of(name))}
    if "train" in kinds and len(kinds) > 1:
        raise DataError(
            f"{folder} has parts ({', '.join(sorted(below))[:200]}) below its class folders; put the parts above the "
            "classes, as train/cat, or write a CSV with a column split"
        )
    deep = [row for row in rows if len(row.path.relative_to(folder).parts) > 2]
    if not deep:
        return []
    lies = "image lies in a folder" if len(deep) == 1 else "images lie in folders"
    text = f"{len(deep)} {lies} below the class folder ({deep[0].path.relative_to(folder)})"
    return [Finding("layout", f"{text}: the first folder below {folder.name} is taken for the class")]


def _rows_of_parts(folder: Path, parts: dict[Path, str]) -> Listing:
    if len(set(parts.values())) < len(parts):
        raise DataError(f"{folder} holds two folders of one part: {', '.join(p.name for p in parts)}")
    rows, walks, findings = [], [], []
    for place, part in parts.items():
        classes = _below(place)
        _refuse_masks(place, [each.name for each in classes])
        ours, below = _rows_of_classes(place, classes, part)
        rows += ours
        walks += below
        findings += [*_beside(place), *_empty(place, classes, below), *_deep(place, ours, below)]
    found = ", ".join(f"{place.name} {sum(row.split == part for row in rows)}" for place, part in parts.items())
    layout = Finding("layout", f"parts recognised by their folders' names: {found} images")
    return Listing(rows, (*_beside(folder), *findings, *_left_out(walks), layout))


def _below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _rows_of_classes(folder: Path, places: list[Path], part: str) -> tuple[list[Row], list["Walk"]]:
    if len(places) < 2:
        found = f"found {len(places)}" + (f" ({places[0].name})" if places else "")
        tables = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in TABLES)
        way = f"; if {tables[0]} is the table of images, name {folder / tables[0]}" if tables else ""
        if not places and not tables and walk(folder).images:
            way = f"; it holds images: if they are one class's, name the folder above it ({folder.resolve().parent})"
        raise DataError(f"{folder} must hold one folder per class, at least two; {found}{way}")
    walks = [walk(place) for place in places]
    labels = Counter(_label(place) for place in places)
    if twice := [label for label, n in labels.items() if n > 1]:
        raise DataError(f"{folder}: several class folders would be called {twice[0]!r}; rename one")
    rows = [Row(path, _label(place), part) for place, found in zip(places, walks, strict=True) for path in found.images]
    return rows, walks


def _empty(folder: Path, places: list[Path], walks: list["Walk"]) -> list[Finding]:
    """Return a finding on class folders without images."""
    empty = [(place, found) for place, found in zip(places, walks, strict=True) if not found.images]
    if not empty:
        return []
    shown = ", ".join(f"{place.name} ({_content(found)})" for place, found in empty[:10])
    more = f" and {len(empty) - 10} others" if len(empty) > 10 else ""
    text = f"class folders without an image that can be read: {shown}{more} in {folder}; remove or fill them"
    return [Finding("empty", text, tuple(place for place, _ in empty))]


def _label(place: Path) -> str:
    """Return a folder's name; bytes in it that are no UTF-8 are shown by their numbers."""
    return os.fsencode(place.name).decode("utf-8", "backslashreplace")


def _content(found: "Walk") -> str:
    """Return what a folder without images holds, in words."""
    kinds = [f"{n} {suffix}" for suffix, n in found.left_out.most_common(3)]
    kinds += ["closed"] if found.closed else []
    return ", ".join(kinds) or "empty"


def _beside(folder: Path) -> list[Finding]:
    """Return findings on what lies beside the class folders."""
    loose, others, broken, hidden = [], Counter[str](), [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            if path.is_dir() and any(p.suffix.lower() in SUFFIXES for p in path.iterdir()):
                hidden.append(path)
        elif not path.exists():
            broken.append(path)
        elif path.is_file() and path.suffix.lower() in SUFFIXES:
            loose.append(path)
        elif path.is_file() and path.name.lower() not in _NO_IMAGES:
            others[path.suffix.lower() or "no suffix"] += 1
    findings = []
    for kind, paths, what in (
        ("loose", loose, ("image lies", "images lie", "beside the folders of {}, in no class: left out")),
        ("left_out", broken, ("link leads", "links lead", "nowhere in {}: left out")),
        ("left_out", hidden, ("hidden folder holds", "hidden folders hold", "images in {}: left out")),
    ):
        if paths:
            one, several, where = what
            shown = f"{paths[0].name}, ..." if len(paths) > 1 else paths[0].name
            text = f"{len(paths)} {one if len(paths) == 1 else several} {where.format(folder.name)} ({shown})"
            findings.append(Finding(kind, text, tuple(paths)))
    if others:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(6))
        findings.append(Finding("left_out", f"files beside the folders of {folder.name} are not read: {kinds}"))
    return findings


def _left_out(walks: list["Walk"]) -> list[Finding]:
    findings = []
    broken, loops, hidden, closed = (
        [path for found in walks for path in kept(found)]
        for kept in map(attrgetter, ("broken_links", "loops", "hidden", "closed"))
    )
    for one, several, paths in (
        ("link that leads nowhere", "links that lead nowhere", broken),
        ("linked folder that leads back", "linked folders that lead back", loops),
        ("hidden image", "hidden images", hidden),
        ("folder that cannot be read", "folders that cannot be read", closed),
    ):
        if paths:
            text = f"1 {one}: left out ({paths[0]})"
            if len(paths) > 1:
                text = f"{len(paths)} {several}: left out ({paths[0]} is one)"
            findings.append(Finding("left_out", text, tuple(paths)))
    suffixes: Counter[str] = sum((found.left_out for found in walks), Counter())
    if suffixes:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common(6))
        known = " ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
        text = f"{suffixes.total()} files are no images by their suffix: left out ({kinds}); read are {known}"
        findings.append(Finding("left_out", text))
    return findings


@dataclass
class Walk:
    """What lies below a folder.

    Attributes:
        images: Image files, in natural order.
        left_out: Files that are no images, by suffix.
        broken_links: Links that lead nowhere.
        loops: Linked folders that lead back to a folder above them.
        closed: Folders that cannot be read.
        hidden: Hidden images.
        folders: Folders below it.
    """

    images: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    broken_links: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


def walk(folder: Path) -> Walk:
    """Return what lies anywhere below a folder, links followed; hidden files and folders are left out."""
    found = Walk()
    start = Path(os.path.realpath(folder))
    pending: list[tuple[Path, tuple[str, ...]]] = [(folder, tuple(str(p) for p in (start, *start.parents)))]
    while pending:
        place, above = pending.pop()
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except PermissionError:
            found.closed.append(place)
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                if path.suffix.lower() in SUFFIXES and not entry.name.startswith("._"):  # ._x: what macOS leaves
                    found.hidden.append(path)
                continue
            if entry.name.lower() in _NO_IMAGES:
                continue
            if not os.path.exists(path):
                found.broken_links.append(path)
            elif entry.is_dir():
                real = os.path.realpath(path)
                if real in above:
                    found.loops.append(path)
                else:
                    found.folders.append(path)
                    pending.append((path, (*above, real)))
            elif not path.is_file():  # a pipe would hang whoever opens it
                found.left_out["special file"] += 1
            elif path.suffix.lower() in SUFFIXES:
                found.images.append(path)
            else:
                found.left_out[path.suffix.lower() or "no suffix"] += 1
    found.images.sort(key=lambda path: natural(str(path.relative_to(folder))))
    return found

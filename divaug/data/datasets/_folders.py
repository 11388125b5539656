"""One row per image, from a folder of class folders, or of parts with class folders in each."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from divaug.base.errors import DataError
from divaug.data.audit import Finding
from divaug.data.datasets._rows import Listing, Row, natural
from divaug.data.image_files import SUFFIXES

_PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_IMAGES = {"image", "images", "img", "imgs", "jpegimages"}
_TARGETS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "groundtruth", "gt", "segmentation",
    "segmentationclass", "segmentationobject",
}  # fmt: skip
_NO_IMAGES = {"thumbs.db", "desktop.ini"}  # what file managers leave behind


def rows_of_folder(folder: Path) -> Listing:
    """Return one row per image of a folder of class folders; a folder's name is the label.

    ``train``, ``val`` (or ``validation``) and ``test`` with class folders in each are recognised as parts.

    Raises:
        DataError: No such folder, no class folder in it, a class folder without images, images beside their masks, or
            a mixture of parts and classes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    places = _below(folder)
    names = {place.name.lower().replace("_", "").replace(" ", "") for place in places}
    if names & _IMAGES and names & _TARGETS:
        raise DataError(
            f"{folder} holds {', '.join(p.name for p in places)}: images beside masks or annotations, as for "
            "segmentation or detection; divaug classifies images: sort them into one folder per class, or write a CSV "
            "with path,label"
        )
    parts = {place: _PARTS[place.name.lower()] for place in places if place.name.lower() in _PARTS}
    if "train" in parts.values() and len(set(parts.values())) > 1:
        return _rows_of_parts(folder, places, parts)
    rows, walks = _rows_of_classes(folder, places, "")
    return Listing(rows, (*_beside(folder), *_left_out(walks)))


def _rows_of_parts(folder: Path, places: list[Path], parts: dict[Path, str]) -> Listing:
    if strange := [place.name for place in places if place not in parts]:
        raise DataError(
            f"{folder} holds parts ({', '.join(p.name for p in parts)}) and other folders ({', '.join(strange[:5])}): "
            "move the others away, or name the class folders' own folder"
        )
    if len(set(parts.values())) < len(parts):
        raise DataError(f"{folder} holds two folders of one part: {', '.join(p.name for p in parts)}")
    rows, walks, findings = [], [], []
    for place, part in parts.items():
        ours, below = _rows_of_classes(place, _below(place), part)
        rows += ours
        walks += below
        findings += _beside(place)
    found = ", ".join(f"{place.name} {sum(row.split == part for row in rows)}" for place, part in parts.items())
    layout = Finding("layout", f"parts recognised by their folders' names: {found} images")
    return Listing(rows, (*_beside(folder), *findings, *_left_out(walks), layout))


def _below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _rows_of_classes(folder: Path, places: list[Path], part: str) -> tuple[list[Row], list["Walk"]]:
    if len(places) < 2:
        found = f"found {len(places)}" + (f" ({places[0].name})" if places else "")
        raise DataError(f"{folder} must hold one folder per class, at least two; {found}")
    walks = [walk(place) for place in places]
    if empty := [place.name for place, found in zip(places, walks, strict=True) if not found.images]:
        raise DataError(f"class folders without an image: {', '.join(empty)} in {folder}; remove or fill them")
    rows = [Row(path, _label(place), part) for place, found in zip(places, walks, strict=True) for path in found.images]
    return rows, walks


def _label(place: Path) -> str:
    """Return a folder's name; bytes in it that are no UTF-8 are shown by their numbers."""
    return os.fsencode(place.name).decode("utf-8", "backslashreplace")


def _beside(folder: Path) -> list[Finding]:
    """Return findings on images that lie beside the class folders."""
    loose = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")]
    if not loose:
        return []
    text = f"{len(loose)} images lie beside the folders of {folder.name}, in no class: left out ({loose[0].name}, ...)"
    return [Finding("loose", text, tuple(sorted(loose)))]


def _left_out(walks: list["Walk"]) -> list[Finding]:
    findings = []
    for what, paths in (
        ("links that lead nowhere", [path for found in walks for path in found.broken_links]),
        ("linked folders that lead back to a folder above them", [path for found in walks for path in found.loops]),
        ("folders that cannot be read", [path for found in walks for path in found.closed]),
    ):
        if paths:
            findings.append(Finding("left_out", f"{len(paths)} {what}: left out ({paths[0]} is one)", tuple(paths)))
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
    """

    images: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    broken_links: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)


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
            if entry.name.startswith(".") or entry.name.lower() in _NO_IMAGES:
                continue
            if not os.path.exists(path):
                found.broken_links.append(path)
            elif entry.is_dir():
                real = os.path.realpath(path)
                if real in above:
                    found.loops.append(path)
                else:
                    pending.append((path, (*above, real)))
            elif path.suffix.lower() in SUFFIXES:
                found.images.append(path)
            else:
                found.left_out[path.suffix.lower() or "no suffix"] += 1
    found.images.sort(key=lambda path: natural(str(path.relative_to(folder))))
    return found

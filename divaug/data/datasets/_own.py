"""From rows of a user's own images to a Dataset: classes, parts, sizes, normalisation, and what is wrong with them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DataError
from divaug.base.rng import stream
from divaug.config.schema import TABLES, default_of
from divaug.data.audit import Finding, Item, audit, unreadable, worst_first
from divaug.data.datasets._folders import rows_of_folder
from divaug.data.datasets._rows import LISTS, Listing, Row, natural, rows_of_table
from divaug.data.image_files import Geometry, ImageFiles, scan_files
from divaug.data.images import CARVED, Dataset, Part, Request
from divaug.data.split import carve

RESIDENT_BYTES = 2 * 2**30  # decode everything once when it takes no more than this
_NORMALISATION_SAMPLE = 2000
_TITLES = {"train": "training", "val": "validation", "test": "test"}


def listing_of(path: str, request: Request) -> Listing:
    """Return the rows of a folder, a CSV or a list file."""
    if not path:
        raise DataError("the path is empty: name a folder of class folders, or a CSV")
    file = Path(path)
    if file.is_dir() or file.suffix.lower() not in TABLES:
        if request.data_root is not None:
            raise DataError(f"--data-root has no effect with a folder ({file}): it is for paths in tables")
        return rows_of_folder(file, audited=request.audited)
    return rows_of_table(file, request)


def _suited(request: Request, path: str) -> Request:
    """Return the request without what is for the table of training images alone: folders and lists have no columns."""
    own: dict[str, Any] = {}
    if Path(path).suffix.lower() not in TABLES or Path(path).is_dir():
        own["data_root"] = None
    if Path(path).suffix.lower() in LISTS or Path(path).is_dir():
        own |= {f"{role}_column": role for role in ("path", "label", "group", "split")}
    return replace(request, **own)


def own_images(request: Request) -> Dataset:
    """Build a data set from ``request.path`` and ``request.test``.

    Raises:
        DataError: Everything that ``load_images`` refuses, files that cannot be read, fewer than two classes, a class
            without training images, a group on both sides, or test images that are training images.
    """
    return Images(request).dataset()


class Images:
    """A user's own images, listed and scanned, not yet refused or split.

    Attributes:
        request: Where they are and how files become arrays.
        rows: One per image; those of ``--test`` come last, marked as test.
        scans: What each file holds.
        listed: Findings made while listing.
    """

    def __init__(self, request: Request, *, keep: bool | None = None) -> None:
        if request.path is None:
            raise DataError("your own images need a path: a folder of class folders, or a CSV")
        self.request, self.geometry = request, Geometry(request.image_size, request.resize, request.bits)
        ours = listing_of(request.path, request)
        self.rows, self.listed = list(ours.rows), list(ours.findings)
        if request.test is not None:
            if any(row.split == "test" for row in ours.rows):
                raise DataError("test images are named twice: by --test and by the data's own parts; drop one")
            theirs = listing_of(request.test, _suited(request, request.test))
            known = {row.path.resolve() for row in self.rows}
            tested = [row for row in theirs.rows if row.split in ("", "test")]
            if not tested:
                raise DataError(f"--test {request.test} names no test image: all {len(theirs.rows)} are train or val")
            if passed := len(theirs.rows) - len(tested):
                self.listed.append(Finding("left_out", f"{passed} images of --test are train or val there: left out"))
            if both := [row.path for row in tested if row.path.resolve() in known]:
                raise DataError(f"{len(both)} images are in both the training and the test part, {both[0]} among them")
            self.rows += [Row(row.path, row.label, "test", row.group, row.source) for row in tested]
            self.listed += theirs.findings
        named: dict[Path, list[Path]] = {}
        for row in self.rows:
            named.setdefault(row.path.resolve(), []).append(row.path)
        if twice := [paths for paths in named.values() if len(paths) > 1]:
            both = " and ".join(str(path) for path in dict.fromkeys(twice[0]))
            raise DataError(f"{len(twice)} images are named twice ({both} is one of them); name each once")
        size = len(self.rows) * self.geometry.size**2 * 3
        self.resident = size <= RESIDENT_BYTES if keep is None else keep
        self.scans = scan_files([row.path for row in self.rows], self.geometry, keep=self.resident)

    def findings(self, parts: Sequence[str] | None = None) -> list[Finding]:
        """Return everything that was noticed, worst first.

        Args:
            parts: The part of every image; by default as the rows say, the others being training images.
        """
        parts = parts or [row.split or "train" for row in self.rows]
        items = [
            Item(row.path, scan, row.label, part) for row, scan, part in zip(self.rows, self.scans, parts, strict=True)
        ]
        return worst_first([*unreadable(items), *self.listed, *audit(items, self.geometry)])

    def check(self, findings: Sequence[Finding] | None = None) -> list[str]:
        """Return the class names, in natural order, or refuse what cannot be trained on.

        Raises:
            DataError: See ``own_images``.
        """
        items = [Item(row.path, scan, row.label, row.split) for row, scan in zip(self.rows, self.scans, strict=True)]
        if bad := unreadable(items):
            raise DataError(f"{bad[0].text}; repair or remove them")
        labels: dict[str, set[str]] = {part: set() for part in ("train", "val", "test")}
        for row in self.rows:
            labels[row.split or "train"].add(row.label)
        names = sorted(labels["train"], key=natural)
        if not names:
            raise DataError("no image is a training image: all are marked val or test")
        if len(names) < 2:
            raise DataError(f"at least two classes are needed, found {names}")
        for part in ("test", "val"):
            if unknown := sorted(labels[part] - labels["train"], key=natural):
                raise DataError(f"{part} classes {unknown} have no training images")
        leaks = [f for f in (self.findings(self._tested()) if findings is None else findings) if f.kind == "leak"]
        if leaks and not self.request.allow_leaks:
            files = "; ".join(str(path) for path in leaks[0].files[:20])
            raise DataError(
                f"{leaks[0].text}. What is learned by heart would be tested: remove the copies, or give --allow-leaks. "
                f"The files: {files}{'; ...' if len(leaks[0].files) > 20 else ''}"
            )
        return names

    def _tested(self) -> list[str]:
        """Return the part of every image; val is train where both go into folds, which keep copies together."""
        dealt = {"val": "train"} if self.request.dealt else {}
        return [dealt.get(row.split, row.split) or "train" for row in self.rows]

    def parts(self) -> tuple[Part, np.ndarray, list[str], list[Finding]]:
        """Return all images, the part of each (train, val, test), the class names and what was noticed.

        Raises:
            DataError: See ``own_images``.
        """
        request, noticed = self.request, self.findings(self._tested())
        names, findings = self.check(noticed), []
        parts = np.array([row.split or "train" for row in self.rows])
        whole, carved = self._whole(names), not (parts == "test").any()
        put_back = carved and request.dealt
        if not carved and request.test_frac != default_of("test_frac"):
            findings.append(
                Finding("split", f"test_frac {request.test_frac:g} has no effect: the data name a test part")
            )
        if carved:
            rest = np.flatnonzero(parts == "train")
            groups, copies = None if whole.groups is None else whole.groups[rest], whole.digests[rest]
            held = carve(whole.labels[rest], request.test_frac, request.split_seed, groups, copies)
            parts[rest[held]] = "test"
            by = "by whole groups" if whole.groups is not None else "stratified"
            text = f"{CARVED}: {held.sum()} of {len(rest)} images, {by}"
            if len(set(copies.tolist())) < len(rest):
                text += ", identical images on one side"
            findings.append(Finding("split", text))
        if whole.groups is not None:
            of = {part: set(whole.groups[parts == part].tolist()) for part in ("train", "val", "test")}
            for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
                if request.dealt and (one, other) == ("train", "val"):
                    continue  # both go into the folds, which keep groups whole
                if both := sorted(of[one] & of[other]):
                    shown = (
                        {"train": "training", "val": "validation"}.get(one, one),
                        {"val": "validation"}.get(other, other),
                    )
                    raise DataError(
                        f"groups {both[:5]} ({len(both)} in all) are in both the {shown[0]} and the {shown[1]} part"
                    )
        train_counts, test_counts = (
            np.bincount(whole.labels[parts == part], minlength=len(names)) for part in ("train", "test")
        )
        if (train_counts == 0).any() and not put_back:
            absent = [names[c] for c in np.flatnonzero(train_counts == 0)]
            raise DataError(f"classes {absent} have no training image; give them some, or drop the class")
        if not test_counts.any() and not put_back:
            raise DataError("no image is left for testing; name a test part with --test")
        if (test_counts == 0).any() and not put_back:
            absent = [names[c] for c in np.flatnonzero(test_counts == 0)]
            findings.append(Finding("absent", f"classes {absent} have no test image: their metrics are NaN"))
        if any(row.source for row in self.rows):
            sources = Counter(row.source or "unnamed" for row in self.rows)
            said = ", ".join(f"{name} {n}" for name, n in sorted(sources.items()))
            findings.append(Finding("sources", f"images by source: {said}"))
        noticed = self.findings(parts.tolist()) if carved and not put_back else noticed
        return whole, parts, names, worst_first([*findings, *noticed])

    def dataset(self) -> Dataset:
        """Return the data set; see ``own_images``."""
        whole, parts, names, found = self.parts()
        train, val, test = (whole.take(parts == part) for part in ("train", "val", "test"))
        mean, std = _normalisation(train.images)
        return Dataset(
            train, test, names, mean, std, pixel="crop_flip", notes=tuple(finding.text for finding in found),
            carved=not any(row.split == "test" for row in self.rows), val=val if len(val.labels) else None,
        )  # fmt: skip

    def _whole(self, names: list[str]) -> Part:
        index = {name: c for c, name in enumerate(names)}
        labels = np.array([index[row.label] for row in self.rows], dtype=np.int64)
        images: np.ndarray | ImageFiles = ImageFiles([row.path for row in self.rows], self.geometry)
        if self.resident:
            images = np.stack([scan.pixels for scan in self.scans if scan.pixels is not None])
        # An image without a group is a group of its own.
        groups = np.array([row.group or f"picture {row.path}" for row in self.rows])
        contents = np.frombuffer(b"".join(scan.content for scan in self.scans), dtype="V32")
        paths = np.array([str(row.path) for row in self.rows])
        return Part(images, labels, groups if any(row.group for row in self.rows) else None, contents, paths)


def _normalisation(images: np.ndarray | ImageFiles) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure channel means and deviations on the training images, or on a fixed sample of them."""
    if len(images) > _NORMALISATION_SAMPLE:
        images = images[np.sort(stream(0, "normalisation").permutation(len(images))[:_NORMALISATION_SAMPLE])]
    else:
        images = images[np.arange(len(images))]
    pixels = images.reshape(-1, images.shape[-1]) / 255.0
    return tuple(pixels.mean(0).tolist()), tuple(np.maximum(pixels.std(0), 1e-3).tolist())

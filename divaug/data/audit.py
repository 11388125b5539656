"""What is wrong, or misleading, in a set of image files: found in one pass, before training."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from divaug.base.text import one_line
from divaug.data.image_files import Geometry, Scan

# Kinds of findings, worst first.
KINDS = {
    "missing": "files that are named and are not there",
    "empty": "class folders without images",
    "unreadable": "files that cannot be read",
    "leak": "the same image in training and in test or validation",
    "two_classes": "the same image in several classes",
    "near_leak": "nearly the same image in training and in test or validation",
    "one_image": "classes with one image",
    "separable": "image size or file format that alone tells a class",
    "depth": "16-bit images that use fewer bits",
    "flat": "images of one colour",
    "missing_label": "labels that look like a missing value",
    "blanks": "labels with blanks behind them",
    "names": "class names that differ by case or blanks only",
    "groups": "groups that are missing, or written in two ways",
    "unmarked": "rows without a part beside rows with one",
    "absent": "classes absent from a part",
    "loose": "images in no class",
    "left_out": "files and folders left out",
    "columns": "columns left out",
    "copies": "the same image several times in one class",
    "near_copies": "nearly the same image several times",
    "frames": "files with several images",
    "shape": "images that are resized, and how",
    "layout": "what the folders' names were taken for",
    "split": "how the test part was made",
    "sources": "where the images come from",
}
TOLD = {"blanks", "layout", "split", "sources", "shape"}  # kinds that say what is done, not that something is wrong
NEAR_BITS = 3  # of 64: re-saved and rescaled copies differ by no more, with few exceptions
NEAR_RMS = 0.15  # root mean square difference of thumbnails, in standard deviations: re-saved copies have less
TELLING_AUC = 0.95  # area under the ROC curve of image size for one class against the others
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_BANDS, _WINDOW = 4, 100
_SHOWN = 3  # pairs in a line
_ENOUGH = 5  # images of a class that is said to be told by something


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed.

    Attributes:
        kind: A key of ``KINDS``.
        text: What, where, and a way out, in one line.
        files: The files concerned.
        sets: For files that belong together (copies of one image, a pair), the number of each one's set.
    """

    kind: str
    text: str
    files: tuple[Path, ...] = ()
    sets: tuple[int, ...] = ()

    def __post_init__(self) -> None:  # one line, whatever is in names: a newline would forge another finding
        object.__setattr__(self, "text", one_line(self.text))


@dataclass(frozen=True)
class Item:
    """One image: its file, what the file holds, its class, and its part (train, val, test)."""

    path: Path
    scan: Scan
    label: str
    part: str


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in the order of ``KINDS``."""
    order = list(KINDS)
    return sorted(findings, key=lambda finding: order.index(finding.kind))


def unreadable(items: Sequence[Item]) -> list[Finding]:
    """Return one finding that names all files that cannot be read."""
    bad = [item for item in items if item.scan.error is not None]
    if not bad:
        return []
    shown = "; ".join(f"{item.path} ({item.scan.error})" for item in bad[:50])
    more = f"; and {len(bad) - 50} others, all of them with audit --save FILE.csv" if len(bad) > 50 else ""
    text = f"{len(bad)} of {len(items)} files cannot be read as images: {shown}{more}"
    return [Finding("unreadable", text, tuple(item.path for item in bad))]


def audit(items: Sequence[Item], geometry: Geometry) -> list[Finding]:
    """Return what is noticed about readable images, worst first.

    Args:
        items: The images; those that cannot be read are passed over.
        geometry: The size that they are trained at.
    """
    items = [item for item in items if item.scan.error is None]
    if not items:
        return []
    findings = [*_identical(items), *_near(items), *_names(items), *_sizes(items, geometry), *_forms(items, geometry)]
    return worst_first(findings)


def _identical(items: list[Item]) -> list[Finding]:
    same: dict[bytes, list[Item]] = defaultdict(list)
    for item in items:
        same[item.scan.content].append(item)
    groups = [group for group in same.values() if len(group) > 1]
    several_parts = [len({item.part for item in group}) > 1 for group in groups]
    several_classes = [len({item.label for item in group}) > 1 for group in groups]
    across = [group for group, parts in zip(groups, several_parts, strict=True) if parts]
    classes = [group for group, labels in zip(groups, several_classes, strict=True) if labels]
    within = [g for g, p, c in zip(groups, several_parts, several_classes, strict=True) if not p and not c]
    findings = []
    for kind, chosen, what in (
        ("leak", across, ("image is", "images are", "byte for byte in several parts")),
        ("two_classes", classes, ("image is", "images are", "byte for byte in several classes")),
        ("copies", within, ("image has", "images have", "identical copies in its own class")),
    ):
        if chosen:
            text = f"{_counted(chosen, *what)}: {_shown([_unlike(group) for group in chosen], '=')}"
            if kind == "copies":
                spare = sum(len(g) - 1 for g in chosen)
                text += f"; {spare} {'file' if spare == 1 else 'files'} could go"
            findings.append(_finding(kind, text, chosen))
    return findings


def _unlike(group: list[Item]) -> tuple[Item, Item]:
    """Return two of some copies, in different parts or classes if there are such."""
    first, *others = group
    return first, next((i for i in others if (i.part, i.label) != (first.part, first.label)), others[0])


def _counted(found: Sequence[object], one: str, several: str, what: str) -> str:
    return f"{len(found)} {one if len(found) == 1 else several} {what}"


def _shown(pairs: Sequence[tuple[Item, Item]], sign: str) -> str:
    """Return a few pairs, and where all of them are."""
    shown = "; ".join(f"{a.path} ({_where(a)}) {sign} {b.path} ({_where(b)})" for a, b in pairs[:_SHOWN])
    return shown + (f"; and {len(pairs) - _SHOWN} more (divaug audit --save)" if len(pairs) > _SHOWN else "")


def _finding(kind: str, text: str, sets: Sequence[Sequence[Item]]) -> Finding:
    numbers = tuple(n for n, group in enumerate(sets, start=1) for _ in group)
    return Finding(kind, text, tuple(item.path for group in sets for item in group), numbers)


def _where(item: Item) -> str:
    return f"{item.part}, {item.label}" if item.part else item.label


def near_pairs(looks: np.ndarray, pixels: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of images that look alike, confirmed on their pixels.

    Hashes that differ in at most 3 of 64 bits agree in one of four bands of 16, so only images that share a band are
    compared; in a crowded band each with the hundred next to it in the order of their hashes, which bounds the work.
    The hash alone is not enough: of 4,000 Fashion-MNIST images it pairs 87 that are different clothes.

    Args:
        looks: Perceptual hashes, uint64 ``(N,)``.
        pixels: Thumbnails, uint8 ``(N, 16, 16, 3)``.

    Returns:
        Index pairs (i, j) with i < j, ascending.
    """
    candidates: list[np.ndarray] = []
    for band in range(_BANDS):
        keys = (looks >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.lexsort((looks, keys))
        for step in range(1, _WINDOW + 1):
            if step >= len(order):
                break
            left, right = order[:-step], order[step:]
            together = keys[left] == keys[right]
            if not together.any():
                break  # no band holds more than ``step`` images
            left, right = left[together], right[together]
            differing = np.bitwise_count(looks[left] ^ looks[right])
            close = differing <= NEAR_BITS
            candidates.append(np.stack([np.minimum(left, right)[close], np.maximum(left, right)[close]], axis=1))
    if not candidates:
        return []
    pairs = np.unique(np.concatenate(candidates), axis=0)
    return [(int(i), int(j)) for i, j in pairs if _alike(pixels[i], pixels[j])]


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two thumbnails agree: in luminance finely, in colour coarsely, as JPEG keeps colour."""
    x, y = (image.astype(np.float64) for image in (a, b))
    for one, other in ((x @ _LUMINANCE, y @ _LUMINANCE), (_coarse(x), _coarse(y))):
        if np.sqrt(((one - other) ** 2).mean()) > NEAR_RMS * min(one.std(), other.std()):
            return False
    return bool(min(x.std(), y.std()) > 0)


def _coarse(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    return image.reshape(4, height // 4, 4, width // 4, channels).mean((1, 3))


def _near(items: list[Item]) -> list[Finding]:
    first: dict[bytes, int] = {}
    for i, item in enumerate(items):
        if not item.scan.flat and item.scan.thumbnail is not None:
            first.setdefault(item.scan.content, i)  # identical ones are reported already
    unique = list(first.values())
    if len(unique) < 2:
        return []
    looks = np.array([items[i].scan.look for i in unique], dtype=np.uint64)
    thumbnails = np.stack([thumbnail for i in unique if (thumbnail := items[i].scan.thumbnail) is not None])
    pairs = [(items[unique[i]], items[unique[j]]) for i, j in near_pairs(looks, thumbnails)]
    across = [(a, b) for a, b in pairs if a.part != b.part]
    classes = [(a, b) for a, b in pairs if a.part == b.part and a.label != b.label]
    within = [(a, b) for a, b in pairs if a.part == b.part and a.label == b.label]
    findings = []
    for kind, chosen, what in (
        ("near_leak", across, "across parts"),
        ("near_copies", classes, "in different classes of one part"),
        ("near_copies", within, "in one class and part"),
    ):
        if chosen:
            said = _counted(
                chosen, "pair of nearly identical images lies", "pairs of nearly identical images lie", what
            )
            findings.append(_finding(kind, f"{said}: {_shown(chosen, '~')}", chosen))
    return findings


def alike(name: str) -> str:
    """Return a name without what the eye does not see: case, blanks, how accents are composed, invisible characters."""
    text = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf").casefold()
    return re.sub(r"(?<=\w)[-_\s]+(?=\w)", " ", text).strip()


def _names(items: list[Item]) -> list[Finding]:
    same: dict[str, set[str]] = defaultdict(set)
    for label in {item.label for item in items}:
        number = re.fullmatch(r"([+-]?[0-9]{1,30})(\.0*)?", label)
        same[str(int(number[1])) if number else alike(label)].add(label)
    findings = [
        Finding("names", f"classes {sorted(names)} differ by case, blanks or spelling only: one class, or several?")
        for names in same.values() if len(names) > 1
    ]  # fmt: skip
    for part in ("train", "test"):
        ours = [item for item in items if item.part == part]
        counts = Counter(item.label for item in ours)
        if alone := sorted(label for label, n in counts.items() if n == 1):
            text = (
                f"classes {alone[:10]} ({len(alone)} in all) have one {'training' if part == 'train' else part} image"
            )
            findings.append(Finding("one_image", text, tuple(item.path for item in ours if counts[item.label] == 1)))
    return findings


def _sizes(items: list[Item], geometry: Geometry) -> list[Finding]:
    side = geometry.size
    sizes = Counter((item.scan.width, item.scan.height) for item in items)
    (width, height), _ = sizes.most_common(1)[0]
    if set(sizes) == {(side, side)}:
        return []
    shown = f"{width}x{height}" if len(sizes) == 1 else f"of {len(sizes)} sizes, mostly {width}x{height}"
    text = f"images are {shown}; they are trained at {side}x{side} pixels (--image-size changes that)"
    oblong = sum(n for (w, h), n in sizes.items() if w != h)
    odd = tuple(i.path for i in items if i.scan.width != i.scan.height or min(i.scan.width, i.scan.height) < side)
    if oblong:
        how = {
            "stretch": "stretched to a square (--resize crop or pad keeps their shape)",
            "crop": "cropped to a square", "pad": "padded to a square",
        }[geometry.resize]  # fmt: skip
        text += f"; {oblong} of {len(items)} are not square and are {how}"
    small = sum(n for (w, h), n in sizes.items() if min(w, h) < side)
    if small:
        text += f"; {small} are smaller than that and are enlarged"
    return [Finding("shape", text, odd)]


def _telling(items: list[Item]) -> list[Finding]:
    """Return findings on a size or a format that alone tells a class."""
    totals = Counter(item.label for item in items)
    findings = []
    sides = np.sqrt([item.scan.width * item.scan.height for item in items])
    labels = np.array([item.label for item in items])
    ratios = np.array([item.scan.width / item.scan.height for item in items])
    for what, unit, values in (("size", "px", sides), ("shape", "width by height", ratios)):
        told = []
        for label, n in totals.items():
            if n >= _ENOUGH and n < len(items):
                own = labels == label
                area = _auc(values[own], values[~own])
                if max(area, 1 - area) >= TELLING_AUC:
                    told.append((label, np.median(values[own]), np.median(values[~own]), max(area, 1 - area)))
        if told:
            told.sort(key=lambda one: -one[3])
            best = [f"{name} {own:.3g}, the others {rest:.3g}, AUC {auc:.2f}" for name, own, rest, auc in told[:4]]
            shown = "; ".join(best)
            text = f"image {what} alone tells {len(told)} of {len(totals)} classes (median, {unit}: {shown})"
            findings.append(Finding("separable", f"{text}: a network can learn it instead of what is shown"))
    by_format: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        by_format[item.scan.format][item.label] += 1
    known = _told(by_format, totals)
    if known:
        shown = "; ".join(f"{name}: {share:.0%} {form}, the others {rest:.1%}" for name, form, share, rest in known[:4])
        text = f"file format alone tells {len(known)} of {len(totals)} classes ({shown})"
        findings.append(Finding("separable", f"{text}: a network can learn it instead of what is shown"))
    return findings


def _auc(ours: np.ndarray, others: np.ndarray) -> float:
    """Return the probability that one of ours is larger than one of the others, ties counting half."""
    below = np.searchsorted(np.sort(others), ours, "left") + np.searchsorted(np.sort(others), ours, "right")
    return float(below.mean() / 2 / len(others))


def _forms(items: list[Item], geometry: Geometry) -> list[Finding]:
    findings = _telling(items)
    findings += _depths(items, geometry)
    flat = [item for item in items if item.scan.flat]
    if flat:
        text = (
            f"{_counted(flat, 'image has', 'images have', 'one colour all over')}: {flat[0].path} ({_where(flat[0])})"
        )
        findings.append(Finding("flat", text, tuple(item.path for item in flat)))
    several = [item for item in items if item.scan.frames > 1]
    if several:
        said = _counted(several, "file holds", "files hold", "several images, of which the first is used")
        text = f"{said}: {several[0].path}"
        findings.append(Finding("frames", text, tuple(item.path for item in several)))
    return findings


def _depths(items: list[Item], geometry: Geometry) -> list[Finding]:
    """Return findings on 16-bit images of which 8 bits are kept: the upper ones, or those of ``bits``."""
    findings, dark = [], []
    for grey in (True, False):
        deep = [item for item in items if item.scan.deep and item.scan.grey == grey]
        peaks = {label: max(i.scan.peak for i in deep if i.label == label) for label in {i.label for i in deep}}
        used = geometry.bits if grey else 16
        dark = {label: peak for label, peak in peaks.items() if peak < 2 ** (used - 1)}
        if dark:
            peak = max(dark.values())
            levels = (peak >> (used - 8)) + 1
            text = f"16-bit images of {len(dark)} of {len(peaks)} classes have few values above {peak:,}: of 256 levels"
            bits = max(8, int(max(peaks.values())).bit_length())
            way = f"--bits {bits} uses all bits that are there" if grey else "--bits is for grey: store 8 bits"
            files = tuple(item.path for item in deep if item.label in dark)
            findings.append(Finding("depth", f"{text} {levels} are left, the dark ones; {way}", files))
        if clipped := [item for item in deep if grey and item.scan.peak >= 2**used]:
            what = f"values above {2**used - 1:,}, which --bits {used} makes white"
            text = _counted(clipped, "image has", "images have", what)
            findings.append(Finding("depth", text, tuple(item.path for item in clipped)))
    return findings


def _told(by_form: dict[str, Counter[str]], totals: Counter[str]) -> list[tuple[str, str, float, float]]:
    """Return classes that a format tells: nine tenths of a class have it, and at most a twentieth of the others."""
    everything = totals.total()
    told = []
    for value, labels in by_form.items():
        have = labels.total()
        for label, n in labels.items():
            share, other = n / totals[label], (have - n) / max(1, everything - totals[label])
            if totals[label] >= _ENOUGH and share >= 0.9 and other <= 0.05 and everything > totals[label]:
                told.append((label, value, share, other))
    return sorted(told, key=lambda one: (one[3], -one[2]))

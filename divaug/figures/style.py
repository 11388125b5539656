"""One look for all figures: readable in grey, with colour never the only carrier of meaning."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.progress import Progress

# Okabe and Ito's colours, safe for colour-blind readers, in an order of falling contrast with white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
GROUP_LINES = {"head": "-", "mid": "--", "tail": ":"}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Any, Any]:
    """Return a figure in inches and its axes, without pyplot's global state."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns, **kwargs)
    for axis in made.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", linewidth=0.4, alpha=0.6)
        axis.set_axisbelow(True)
    return made, axes


def look(index: int) -> dict[str, Any]:
    """Return colour, marker and line of the index-th series."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index // len(COLORS) % len(LINES)],
    }


def save(made: Any, path: Path) -> None:
    """Write a PNG; text is shown as it is written: no mathematics, and fonts that have its characters."""
    import warnings

    from matplotlib import rc_context
    from matplotlib.text import Text

    for axis in (axis for axes in made.axes for axis in (axes.xaxis, axes.yaxis)):
        if axis.get_scale() != "linear":  # whose own labels are mathematics
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
    texts = made.findobj(Text)
    families = _fonts("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(families)
    with rc_context({"text.parse_math": False, "font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # said once, by _fonts
        temporary = path.with_name(f".{path.name}.tmp")  # a figure that exists is whole
        made.savefig(temporary, dpi=150, format="png")
        temporary.replace(path)


_said: set[str] = set()


def _fonts(text: str) -> list[str]:
    """Return font families that have the text's characters between them; say once what no installed font has."""
    from matplotlib import font_manager

    families = ["DejaVu Sans"]  # Matplotlib's own: always there
    missing = {character for character in text if not character.isspace() and character.isprintable()}
    missing -= _characters(font_manager.findfont("DejaVu Sans"), missing)
    if missing:
        for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.style != "normal", font.name)):
            if found := _characters(font.fname, missing):
                families.append(font.name)
                missing -= found
            if not missing:
                break
    if new := missing - _said:
        _said.update(new)
        shown = "".join(sorted(new)[:20])
        Progress("lines").say(
            f"note: no installed font has {shown!r}: figures show boxes; install one, such as Noto Sans"
        )
    return families


def _characters(file: str, wanted: set[str]) -> set[str]:
    """Return those of the wanted characters that a font file has."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
    except (OSError, RuntimeError):  # a font that was removed, or that FreeType cannot read
        return set()
    return {character for character in wanted if font.get_char_index(ord(character))}


def named(text: str, most: int = 28) -> str:
    """Return a user's name as a label: shortened, in one line, and not hidden as Matplotlib hides ``_name``."""
    line = " ".join(text.split()) or repr(text)
    # Long names of one kind often begin alike: the end is kept too.
    short = line if len(line) <= most else f"{line[: most // 2]}…{line[-(most - most // 2 - 1) :]}"
    return f" {short}" if short.startswith("_") else short


def wrapped(label: str, width: int = 26) -> str:
    """Break a method's label ("erm+mix=cutmix+mix.alpha=0.5") before a plus if it is long."""
    lines = [""]
    for part in re.split(r"(?=\+)", label):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


MOST_NAMES = 30  # classes that can be named on an axis


def by_rank(axis: Any, values: Sequence[np.ndarray], counts: np.ndarray, names: Sequence[str]) -> None:
    """Draw recall over the rank of many classes: points, a running mean, and the worst and best by name.

    Args:
        axis: Where to draw.
        values: For each series ``(C,)`` in %, in the order of rank.
        counts: Training images ``(C,)``, in that order.
        names: Class names, in that order.
    """
    rank, width = np.arange(1, len(names) + 1), max(5, len(names) // 20)
    for index, series in enumerate(values):
        known = ~np.isnan(series)
        color = COLORS[index % len(COLORS)]
        axis.plot(rank, series, ".", color=color, markersize=3, alpha=0.35)
        kernel = np.ones(width)
        weight = np.convolve(known, kernel, "same")
        mean = np.convolve(np.nan_to_num(series), kernel, "same") / np.maximum(weight, 1)
        style = LINES[index % len(LINES)]
        axis.plot(rank, np.where(weight > 0, mean, np.nan), color=color, linestyle=style, linewidth=1.8)
    first = values[0]
    order = [int(c) for c in np.argsort(np.nan_to_num(first, nan=np.inf), kind="stable") if not np.isnan(first[c])]
    worst, best = order[:3], order[-3:][::-1]
    said = "; ".join(
        f"{word}: " + ", ".join(f"{named(names[c], 20)} ({first[c]:.0f} %, n = {counts[c]})" for c in chosen)
        for word, chosen in (("worst", worst), ("best", best))
    )
    axis.set_title("\n".join(textwrap.wrap(said, 100)), fontsize=7, loc="left")
    at = np.unique(np.linspace(0, len(names) - 1, 9).round().astype(int))
    axis.set_xticks(at + 1, [f"{c + 1}\n({counts[c]})" for c in at], fontsize=7)
    axis.set_xlabel(f"rank of the class (its training images); line: running mean over {width} classes")


def class_ticks(names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Return axis labels "name (n)"."""
    return [f"{named(name)} ({count})" for name, count in zip(names, counts, strict=True)]

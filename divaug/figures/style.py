"""One look for all figures: readable in grey, with colour never the only carrier of meaning."""

import re
from pathlib import Path
from typing import Any

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
    """Write a PNG."""
    made.savefig(path, dpi=150)


def wrapped(label: str, width: int = 26) -> str:
    """Break a method's label ("erm+mix=cutmix+mix.alpha=0.5") before a plus if it is long."""
    lines = [""]
    for part in re.split(r"(?=\+)", label):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def class_ticks(names: list[str], counts: list[int], most: int = 30) -> list[str]:
    """Return axis labels "name (n)", thinned out if there are too many classes to read."""
    labels = [f"{name} ({count})" for name, count in zip(names, counts, strict=True)]
    every = -(-len(labels) // most)
    return [label if i % every == 0 else "" for i, label in enumerate(labels)]

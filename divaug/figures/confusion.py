"""Who is taken for whom: a confusion matrix, and its largest shares as a network of classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.figures.style import figure, named, save

BEND = 0.12  # of an arrow, so that two between the same classes lie apart
LEAST = 0.01  # share of a class's images from which an arrow is drawn


def confusion(path: Path, matrix: np.ndarray, classes: Sequence[str]) -> Path:
    """Draw a confusion matrix as shares of each class, in %.

    Args:
        path: Output file.
        matrix: Labels in rows, predictions in columns.
        classes: Names.
    """
    size = len(classes)
    side = max(3.2, 0.34 * size + 1.4)  # small enough to be read on a phone
    made, axis = figure(side, side)
    axis.grid(visible=False)
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Greys", vmin=0, vmax=100)
    names = [named(name, 18) for name in classes]
    axis.set_xticks(range(size), names, rotation=90, fontsize=8)
    axis.set_yticks(range(size), names, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    if size <= 15:
        for row in range(size):
            for column in range(size):
                if matrix[row, column]:
                    color = "white" if shares[row, column] > 50 else "black"
                    text = f"{shares[row, column]:.0f}"
                    axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    save(made, path)
    return path


def taken_for(path: Path, matrix: np.ndarray, classes: Sequence[str]) -> Path:
    """Draw classes on a circle and an arrow from each label to what its images are taken for, as wide as their share.

    Drawn are the largest shares, two for every class on average; a few are written beside their arrows.

    Args:
        path: Output file.
        matrix: Labels in rows, predictions in columns.
        classes: Names.
    """
    from matplotlib.patches import FancyArrowPatch

    size = len(classes)
    made, axis = figure(5.4, 5.4)
    axis.grid(visible=False)
    axis.axis("off")
    angles = np.pi / 2 - 2 * np.pi * np.arange(size) / size
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for rank, edge in enumerate(edges := strongest(matrix, 2 * size)):
        label, taken, share = edge
        axis.add_patch(
            FancyArrowPatch(
                places[label], places[taken], connectionstyle=f"arc3,rad={BEND}", arrowstyle="-|>", mutation_scale=11,
                linewidth=0.6 + 9 * share, color=str(0.65 - 0.65 * min(1.0, 3 * share)), shrinkA=9, shrinkB=9,
                zorder=len(edges) - rank,
            )
        )  # fmt: skip
        if rank < size // 2:
            x, y = _along(places[label], places[taken])
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
            axis.text(x, y, f"{100 * share:.0f}", fontsize=7, ha="center", va="center", bbox=box, zorder=99)
    axis.scatter(*places.T, s=60, color="black", zorder=100)
    for (x, y), name in zip(places, classes, strict=True):
        sides: Any = {"ha": "left" if x > 0.1 else "right" if x < -0.1 else "center",
                      "va": "bottom" if y > 0.1 else "top" if y < -0.1 else "center"}  # fmt: skip
        axis.text(1.09 * x, 1.09 * y, named(name, 18), fontsize=8, **sides)
    axis.set(xlim=(-1.6, 1.6), ylim=(-1.4, 1.4), aspect="equal")
    axis.set_title("label → prediction, % of the label's images", fontsize=8)
    save(made, path)
    return path


def _along(start: np.ndarray, end: np.ndarray, at: float = 0.4) -> np.ndarray:
    """Return a point on a bent arrow: Matplotlib's arc3 is a quadratic curve whose middle point is off the line."""
    (dx, dy), middle = end - start, (start + end) / 2
    control = middle + BEND * np.array([dy, -dx])
    return (1 - at) ** 2 * start + 2 * at * (1 - at) * control + at**2 * end


def strongest(matrix: np.ndarray, number: int) -> list[tuple[int, int, float]]:
    """Return the largest shares off the diagonal: label, prediction, share of the label's images, the largest first.

    Args:
        matrix: Labels in rows, predictions in columns.
        number: Most that are returned; shares below ``LEAST`` are left out.
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0.0)
    order = np.argsort(-shares, axis=None, kind="stable")[:number]
    found = [(int(i // len(shares)), int(i % len(shares)), float(shares.flat[i])) for i in order]
    return [edge for edge in found if edge[2] >= LEAST]

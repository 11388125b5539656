"""Figures of a model on one's own images: recall per class, operating curves, augmented views, mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from divaug.figures.style import COLORS, class_ticks, figure, named, save


def recalls(path: Path, table: Any) -> Path:
    """Draw each class's recall with its interval, the largest class first.

    Args:
        path: Output file.
        table: ``class``, ``tested``, ``recall``, ``low``, ``high`` (in %).
    """
    made, axis = figure(4.8, 0.32 * len(table) + 1.0)
    axis.grid(visible=False)
    rows = np.arange(len(table))
    axis.hlines(rows, table["low"], table["high"], color=COLORS[0])
    axis.plot(table["recall"], rows, "o", color=COLORS[0])
    axis.set_yticks(rows, class_ticks(table["class"].tolist(), table["tested"].tolist()), fontsize=8)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_xlim(-2, 102)
    axis.set_xlabel("recall (%)")
    save(made, path)
    return path


@dataclass(frozen=True)
class Curve:
    """A class's operating curve, in %.

    Attributes:
        false, found: Other images called the class, and images of the class called so, at every threshold.
        plain: Both where the most probable class is taken.
        chosen: Both at the threshold that is set, or None.
    """

    false: np.ndarray
    found: np.ndarray
    plain: tuple[float, float]
    chosen: tuple[float, float] | None


def operating(path: Path, curves: Mapping[str, Curve]) -> Path:
    """Draw sensitivity against false calls; the latter on a logarithmic axis, where rare classes are told apart.

    Args:
        path: Output file.
        curves: By class, up to five.
    """
    made, axis = figure(6.4, 4.2)
    floor = min(0.5 * curve.false[curve.false > 0].min() for curve in curves.values())
    for color, dashes, (name, curve) in zip(COLORS, ("-", "--", "-.", ":", "-"), curves.items(), strict=False):
        axis.step(
            np.maximum(curve.false, floor), curve.found, where="post", color=color, ls=dashes, label=named(name, 24)
        )
        axis.plot(max(curve.plain[0], floor), curve.plain[1], "o", color=color)
        if curve.chosen is not None:
            axis.plot(max(curve.chosen[0], floor), curve.chosen[1], "D", ms=8, mfc="white", mec=color, mew=2)
    axis.set_xscale("log")
    axis.set_xlim(0.9 * floor, 105)
    axis.set_ylim(-2, 106)
    axis.set_xlabel("other images called so (%); the left edge is none")
    axis.set_ylabel("sensitivity (%)")
    axis.legend(loc="lower right", fontsize=8)
    save(made, path)
    return path


def views(path: Path, rows: Mapping[str, Sequence[np.ndarray]]) -> Path:
    """Draw images and their augmented views, one row per class.

    Args:
        path: Output file.
        rows: By title: uint8 ``(H, W, ch)``, the image itself first; as many in every row.
    """
    columns = len(next(iter(rows.values())))
    made, axes = figure(1.1 * columns, 1.35 * len(rows), len(rows), columns, squeeze=False)
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.axis("off")
            axis.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
        line[0].set_title(named(title, 30), fontsize=8, loc="left")
    save(made, path)
    return path


def thumbnail(path: Path, shown: Any, side: int) -> Path:
    """Write a PIL image as a PNG of at most a number of pixels a side; return the file."""
    shown.thumbnail((side, side))
    shown.save(path)
    return path

"""The gallery: one row per augmentation, two images at three strengths each; and clouds of embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from divaug.figures.style import COLORS, save

_TITLES = ("weak", "medium", "strong")


@dataclass(frozen=True)
class Shown:
    """One image with its caption: the label weights, or nothing if there is a single label."""

    image: np.ndarray
    caption: str


@dataclass(frozen=True)
class Row:
    """One augmentation of images.

    Attributes:
        family, name, summary: What it is.
        options: What was set at each strength.
        shown: ``[large, small]`` classes by strength.
    """

    family: str
    name: str
    summary: str
    options: list[dict[str, Any]]
    shown: list[list[Shown]]


@dataclass(frozen=True)
class Cloud:
    """One augmentation of embeddings: points of a plane, by strength.

    Attributes:
        name, summary: What it is.
        options: What was set at each strength.
        originals: Embeddings of the small class, up to 40, ``(n, 2)``.
        enemies: The nearest embeddings of other classes, ``(m, 2)``.
        made: Moved or synthetic embeddings labelled (mostly) as the small class, ``(k, 2)``, by strength.
    """

    name: str
    summary: str
    options: list[dict[str, Any]]
    originals: np.ndarray
    enemies: np.ndarray
    made: list[np.ndarray]


def draw_gallery(
    path: Path, plain: Sequence[Shown], rows: Sequence[Row], clouds: Sequence[Cloud], heading: str
) -> Path:
    """Draw one tall figure.

    Args:
        path: Output file.
        plain: The two original images.
        rows: Augmentations of images.
        clouds: Augmentations of embeddings.
        heading: What images these are.
    """
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

    heights = [1.3] * len(rows) + [2.2] * len(clouds)
    made = Figure(figsize=(11.0, sum(heights) + 1.0))
    top = 0.75 / (sum(heights) + 1.0)
    grid = GridSpec(
        len(heights), 9, made, height_ratios=heights, left=0.16, right=0.99, top=1 - top, bottom=0.01, hspace=0.45,
        wspace=0.12, width_ratios=[1, 1, 0.15, 1, 1, 1, 1, 1, 1],
    )  # fmt: skip
    made.suptitle(heading, fontsize=12, y=1 - 0.15 * top)

    def image(line: int, column: int, shown: Shown) -> Any:
        axis = made.add_subplot(grid[line, column])
        grey = shown.image.shape[-1] == 1
        axis.imshow(shown.image[..., 0] if grey else shown.image, cmap="gray", vmin=0, vmax=255)
        axis.set_xticks([])
        axis.set_yticks([])
        if shown.caption:
            axis.set_xlabel(shown.caption, fontsize=7, labelpad=2)
        return axis

    for line, row in enumerate(rows):
        for column, shown in enumerate(plain):
            axis = image(line, column, shown)
            if column == 0:
                axis.text(
                    -0.15,
                    0.5,
                    f"{row.family}\n{row.name}",
                    transform=axis.transAxes,
                    ha="right",
                    va="center",
                    fontsize=9,
                )
            if line == 0:
                axis.set_title("original", fontsize=8)
        for strength, pair in enumerate(row.shown):
            for which, shown in enumerate(pair):
                axis = image(line, 3 + 2 * strength + which, shown)
                if line == 0:
                    axis.set_title(f"{_TITLES[strength]}\n{('large', 'small')[which]} class", fontsize=8)
    for number, cloud in enumerate(clouds):
        line = len(rows) + number
        label = made.add_subplot(grid[line, :2])
        label.axis("off")
        label.text(-0.08, 0.5, f"feature\n{cloud.name}", transform=label.transAxes, ha="right", va="center", fontsize=9)
        for strength, points in enumerate(cloud.made):
            axis = made.add_subplot(grid[line, 3 + 2 * strength : 5 + 2 * strength])
            axis.scatter(*cloud.enemies.T, s=14, marker="s", facecolor="none", edgecolor="0.55", linewidth=0.8,
                         label="nearest in other classes")  # fmt: skip
            axis.scatter(*cloud.originals.T, s=16, marker="o", color=COLORS[0], label="the small class")
            axis.scatter(*points.T, s=14, marker="x", color=COLORS[1], linewidth=0.9, label="moved or synthetic")
            axis.set_xticks([])
            axis.set_yticks([])
            if strength == 0 and number == 0:
                handles, names = axis.get_legend_handles_labels()
                label.legend(handles, names, fontsize=7, loc="center", frameon=False)
    save(made, path)
    return path

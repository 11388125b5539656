"""The gallery: one row per augmentation, two images at three strengths each; and clouds of embeddings."""

from pathlib import Path
from typing import Any

from divaug.figures.style import COLORS, save

_TITLES = ("weak", "medium", "strong")


def draw_gallery(path: Path, plain: Any, rows: Any, clouds: Any, heading: str) -> Path:
    """Draw one tall figure.

    Args:
        path: Output file.
        plain: The two original images.
        rows: Augmentations of images (``divaug.report.gallery.Row``).
        clouds: Augmentations of embeddings (``divaug.report.gallery.Cloud``).
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

    def picture(line: int, column: int, shown: Any) -> Any:
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
            axis = picture(line, column, shown)
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
                axis = picture(line, 3 + 2 * strength + which, shown)
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

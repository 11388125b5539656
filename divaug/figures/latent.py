"""Figures of one network's latent features: heat maps, curves, train against test, and feature cards."""

from pathlib import Path
from typing import Any

import numpy as np

from divaug.figures.style import COLORS, GROUP_LINES, figure, named, save

_MOST_CLASSES = 40


def heat_map(path: Path, values: np.ndarray, names: list[str], title: str) -> Path:
    """Draw a class-by-feature map, features in the order of their largest value in any class; readable in grey.

    Args:
        path: Output file.
        values: ``(C, D)``; NaN is left white.
        names: Class names, in the order to draw them.
        title: What is shown.
    """
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf).max(0), kind="stable")
    rows = len(names)
    made, axis = figure(8.0, min(12.0, 1.6 + 0.26 * rows))
    axis.grid(visible=False)
    top = np.nanmax(np.abs(values)) if np.isfinite(values).any() else 1.0
    low = float(np.nanmin(values)) if np.isfinite(values).any() else 0.0
    shown = axis.imshow(
        values[:, order], aspect="auto", interpolation="nearest", cmap="viridis", vmin=min(0.0, low), vmax=top
    )  # fmt: skip
    every = -(-rows // _MOST_CLASSES)
    axis.set_yticks(range(0, rows, every), [named(name) for name in names[::every]], fontsize=7)
    axis.set_xlabel("feature, ordered by its largest value in any class")
    axis.set_title(title, fontsize=10)
    made.colorbar(shown, ax=axis, fraction=0.03, pad=0.01)
    save(made, path)
    return path


def curves(
    path: Path, lines: list[tuple[str, str, np.ndarray, np.ndarray]], *, x: str, y: str, title: str, log: bool = False
) -> Path:
    """Draw one line per class, dashed by tercile, dark for large classes to light for small ones.

    Args:
        path: Output file.
        lines: Class name, tercile, x values, y values; from the largest class to the smallest.
        x: Label.
        y: Label.
        title: What is shown.
        log: Logarithmic x.
    """
    from matplotlib import colormaps

    made, axis = figure(7.4, 4.4)
    shades = colormaps["viridis"](np.linspace(0, 0.9, max(1, len(lines))))
    for shade, (name, tercile, at, values) in zip(shades, lines, strict=True):
        marker = "o" if len(at) == 1 else None
        axis.plot(
            at, values, color=shade, linestyle=GROUP_LINES[tercile], label=named(name), linewidth=1.3, marker=marker
        )
    if log:
        axis.set_xscale("log")
    axis.set(xlabel=x, ylabel=y)
    axis.set_title(title, fontsize=10)
    if len(lines) <= 20:
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="class (n)")
    save(made, path)
    return path


def train_against_test(path: Path, train: np.ndarray, test: np.ndarray, *, names: list[str], what: str) -> Path:
    """Draw the magnitude of each class's top-K features in training and in test images, one point per feature.

    Args:
        path: Output file.
        train: ``(C, K)``.
        test: ``(C, K)``.
        names: Class names; at most twelve classes are drawn, evenly from the largest to the smallest.
        what: What is shown, for the axis labels.
    """
    chosen = np.unique(np.linspace(0, len(names) - 1, min(12, len(names))).round().astype(int))
    columns = min(5, len(chosen))
    rows = -(-len(chosen) // columns)
    made, axes = figure(2.1 * columns + 0.5, 2.1 * rows + 0.6, rows, columns, squeeze=False)
    for axis in list(axes.flat)[len(chosen) :]:
        axis.set_visible(False)
    for axis, c in zip(axes.flat, chosen, strict=False):
        both = np.concatenate([train[c], test[c]])
        known = both[np.isfinite(both)]
        low, high = (min(0.0, known.min()), known.max()) if len(known) else (0.0, 1.0)
        axis.plot([low, high], [low, high], color="#888888", linewidth=0.8, linestyle="--")
        axis.scatter(train[c], test[c], s=18, color=COLORS[0])
        axis.set_title(named(names[c]), fontsize=8)
        axis.tick_params(labelsize=7)
    made.supxlabel(f"{what}, training images", fontsize=9)
    made.supylabel(f"{what}, test images", fontsize=9)
    save(made, path)
    return path


def gaps(path: Path, *, raw: np.ndarray, fair: np.ndarray, null: np.ndarray, names: list[str]) -> Path:
    """Draw the generalisation gap of every class: raw beside size-matched with its null.

    Args:
        path: Output file.
        raw: ``(C,)``.
        fair: ``(C, 3)``: size-matched value, and its 2.5 % and 97.5 % quantiles.
        null: ``(C,)``.
        names: Class names, from the largest class to the smallest.
    """
    at = np.arange(len(names))
    made, axes = figure(min(18.0, max(7.0, 0.5 * len(names) + 4)), 4.0, 1, 2)
    axes[0].bar(at, raw, color=COLORS[0])
    axes[0].set_title("raw: grows as classes get smaller, whatever they contain", fontsize=9)
    error = np.abs(fair[:, 1:].T - fair[:, 0])
    axes[1].errorbar(
        at, fair[:, 0], yerr=error, fmt="o", color=COLORS[0], capsize=2, label="size-matched", markersize=4
    )
    axes[1].plot(at, null, "_", color=COLORS[1], markersize=12, label="null: test from where training comes")
    axes[1].set_title("size-matched", fontsize=9)
    axes[1].set_ylim(bottom=0)
    axes[1].legend(fontsize=7, frameon=False)
    every = -(-len(names) // 30)
    for axis in axes:
        axis.set_xticks(at[::every], [named(name) for name in names[::every]], rotation=60, ha="right", fontsize=7)
    axes[0].set_ylabel("range of test features outside training range (L1)", fontsize=8)
    save(made, path)
    return path


def feature_card(path: Path, images: Any, maps: Any, titles: list[str], heading: str) -> Path:
    """Draw, for each of a class's top features, the images that use it most, overlaid with its activation map.

    Args:
        path: Output file.
        images: Per feature uint8 ``(n, H, W, ch)``.
        maps: Per feature ``(n, h, w)`` activations before pooling.
        titles: One per feature.
        heading: Class and network.
    """
    rows, columns = len(images), max(len(p) for p in images)
    made, axes = figure(1.25 * 2 * columns + 0.2, 1.45 * rows + 0.5, rows, 2 * columns, squeeze=False)
    for row in range(rows):
        for column in range(2 * columns):
            axis = axes[row, column]
            axis.set_axis_off()
            index = column // 2
            if index >= len(images[row]):
                continue
            image, heat = images[row][index], maps[row][index]
            height, width = image.shape[:2]
            grey = image.shape[2] == 1
            if column % 2 == 0:
                axis.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=255)
            else:
                axis.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=255)
                axis.imshow(
                    heat, cmap="inferno", alpha=0.6, extent=(-0.5, width - 0.5, height - 0.5, -0.5), vmin=0,
                    vmax=max(float(maps[row].max()), 1e-9), interpolation="bilinear",
                )  # fmt: skip
        axes[row, 0].set_title(titles[row], fontsize=7, loc="left")
    made.suptitle(heading, fontsize=9)
    save(made, path)
    return path

"""Figures of a comparison: recall by class size, growth by group, and accuracy against diversity."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from divaug.figures.style import GROUP_LINES, MOST_NAMES, by_rank, class_ticks, figure, look, save, wrapped

MOST_SERIES = 8  # methods whose points fit side by side at one class


@dataclass(frozen=True)
class Series:
    """One method's numbers over its seeds.

    Attributes:
        label: Method.
        recall: Test recall ``(seeds, C)``, 0 to 1.
        rarefied: Rarefied number of top-K CE of clean training images ``(seeds, C)``, or None.
        growth: Group name to the rarefied number of top-K CE over the views of each epoch ``(seeds, epochs)``.
    """

    label: str
    recall: np.ndarray
    rarefied: np.ndarray | None
    growth: dict[str, np.ndarray]


def draw_comparison(
    folder: Path, series: list[Series], names: list[str], counts: np.ndarray, m: int, ceiling: int
) -> list[Path]:
    """Write the figures and return their paths.

    Args:
        folder: Output folder.
        series: The methods.
        names: Class names.
        counts: Training images of each class.
        m: Sample size of the rarefied numbers.
        ceiling: Their largest possible value.
    """
    paths = [folder / "recall_by_class.png"]
    _recall(paths[0], series, names, counts)
    if any(len(values) for s in series for values in s.growth.values()):
        paths.append(folder / "growth.png")
        _growth(paths[-1], series, m, ceiling)
    if any(s.rarefied is not None for s in series):
        paths.append(folder / "accuracy_diversity.png")
        _diversity(paths[-1], series, counts, m, ceiling)
    return paths


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over seeds; NaN where no seed has a value, without numpy's warning."""
    known = ~np.isnan(values)
    return np.where(known.any(0), np.nansum(values, axis=0) / np.maximum(known.sum(0), 1), np.nan)


def _recall(path: Path, series: list[Series], names: list[str], counts: np.ndarray) -> None:
    order = np.argsort(-counts, kind="stable")
    ordered = [names[c] for c in order]
    if len(series) > MOST_SERIES:
        _recall_map(path, series, order, ordered, counts)
    elif len(order) > MOST_NAMES:
        made, axis = figure(9.0, 4.8)
        by_rank(axis, [100 * _mean(s.recall)[order] for s in series], counts[order], ordered)
        lines = [line for line in axis.get_lines() if line.get_linestyle() != "None"]
        axis.set(ylim=(-2, 102), ylabel="test recall (%)")
        axis.legend(
            lines, [wrapped(s.label) for s in series], frameon=False, fontsize=8, loc="center left",
            bbox_to_anchor=(1.0, 0.5), title=f"names: of {series[0].label}", title_fontsize=7,
        )  # fmt: skip
        save(made, path)
    else:
        _recall_points(path, series, order, ordered, counts)


def _recall_points(path: Path, series: list[Series], order: np.ndarray, ordered: list[str], counts: np.ndarray) -> None:
    made, axis = figure(max(6.0, 0.5 * len(order) + 2), 4.2)
    for index, s in enumerate(series):
        values = 100 * _mean(s.recall)[order]
        offset = (index - (len(series) - 1) / 2) * 0.12
        spread = 100 * s.recall[:, order].std(0, ddof=1) if len(s.recall) > 1 else None
        axis.errorbar(
            np.arange(len(order)) + offset, values, yerr=spread, label=wrapped(s.label), markersize=5, linewidth=0.8,
            capsize=2, **look(index),
        )  # fmt: skip
    axis.set_xticks(
        range(len(order)), class_ticks(ordered, counts[order].tolist()), rotation=60, ha="right", fontsize=8
    )
    axis.set(ylim=(-2, 102), ylabel="test recall (%)", xlabel="class (training images)")
    axis.legend(frameon=False, ncols=min(4, len(series)), loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
    save(made, path)


def _recall_map(path: Path, series: list[Series], order: np.ndarray, ordered: list[str], counts: np.ndarray) -> None:
    """Draw a row for every method, the highest mean recall on top, and a column for every class, the largest first."""
    values = np.array([100 * _mean(s.recall)[order] for s in series])
    rows = np.argsort(-_mean(values.T), kind="stable")
    labels = [wrapped(series[row].label) for row in rows]
    few = len(order) <= MOST_NAMES
    lines = sum(1 + label.count("\n") for label in labels)
    made, axis = figure(max(6.0, 0.42 * len(order) + 2.6) if few else 9.0, 0.2 * lines + 1.8)
    axis.grid(visible=False)
    axis.imshow(values[rows], cmap="Greys", vmin=0, vmax=100, aspect="auto")
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.set(title="test recall (%)")
    if few:
        ticks = class_ticks(ordered, counts[order].tolist())
        axis.set_xticks(range(len(order)), ticks, rotation=60, ha="right", fontsize=8)
        axis.set(xlabel="class (training images)")
        for (row, column), value in np.ndenumerate(values[rows]):
            color = "white" if value > 50 else "black"
            text = "" if np.isnan(value) else f"{value:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    else:
        at = np.unique(np.linspace(0, len(order) - 1, 9).round().astype(int))
        axis.set_xticks(at, [f"{i + 1}\n({counts[order[i]]})" for i in at], fontsize=8)
        axis.set(xlabel="class by size, the largest first (training images)")
    save(made, path)


def _panels(n: int) -> tuple[Any, list[Any]]:
    columns = min(4, n)
    rows = -(-n // columns)
    made, axes = figure(2.6 * columns + 0.6, 2.5 * rows + 0.6, rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in list(axes.flat)[n:]:
        axis.set_visible(False)
    return made, list(axes.flat)


def _growth(path: Path, series: list[Series], m: int, ceiling: int) -> None:
    made, axes = _panels(len(series))
    for axis, s in zip(axes, series, strict=False):
        for group, values in s.growth.items():
            if len(values):
                axis.plot(
                    np.arange(values.shape[1]) + 1,
                    _mean(values),
                    color="#0072B2",
                    linestyle=GROUP_LINES[group],
                    label=group,
                )
        axis.set_title(wrapped(s.label), fontsize=9)
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False, fontsize=8)
    made.supxlabel("epoch", fontsize=9)
    made.supylabel(f"distinct top-K CE expected\nin {m} views (ceiling {ceiling})", fontsize=9)
    save(made, path)


def _diversity(path: Path, series: list[Series], counts: np.ndarray, m: int, ceiling: int) -> None:
    if len(series) > MOST_SERIES:
        _diversity_panels(path, series, m, ceiling)
        return
    lines = sum(1 + wrapped(s.label).count("\n") for s in series)
    made, axis = figure(6.4, max(4.4, 0.16 * lines + 0.8))  # the legend beside it has a line for every method
    sizes = 15 + 75 * (np.log(counts) - np.log(counts.min())) / max(1e-9, np.log(counts.max() / counts.min()))
    many = len(counts) > 100
    for index, s in enumerate(series):
        if s.rarefied is not None:
            style = look(index)
            how = {"facecolor": "none", "linewidth": 1.2} if not many else {"facecolor": style["color"], "alpha": 0.35}
            axis.scatter(
                _mean(s.rarefied), 100 * _mean(s.recall), s=sizes / (8 if many else 1), marker=style["marker"],
                edgecolor="none" if many else style["color"], label=wrapped(s.label), **how,
            )  # fmt: skip
    axis.set(
        xlabel=f"distinct top-K CE expected in {m} clean training images\n"
        f"(ceiling {ceiling}; classes with fewer images are left out)",
        ylabel="test recall (%)",
        ylim=(-4, 106),
    )
    handles = axis.legend(
        frameon=False,
        fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        title="one point per class;\nlarger: more images",
    )
    handles.get_title().set_fontsize(8)
    save(made, path)


def _diversity_panels(path: Path, series: list[Series], m: int, ceiling: int) -> None:
    """Draw a panel for every method, with the points of all in grey behind its own."""
    points = [(s.label, _mean(s.rarefied), 100 * _mean(s.recall)) for s in series if s.rarefied is not None]
    all_x, all_y = (np.concatenate([point[axis] for point in points]) for axis in (1, 2))
    made, axes = _panels(len(points))
    for axis, (label, x, y) in zip(axes, points, strict=False):
        axis.scatter(all_x, all_y, s=4, color="#CCCCCC", edgecolor="none")
        axis.scatter(x, y, s=18, color="#0072B2", edgecolor="none")
        axis.set_title(wrapped(label), fontsize=9)
    axes[0].set(ylim=(-4, 106))
    made.supxlabel(
        f"distinct top-K CE expected in {m} clean training images (ceiling {ceiling}; one point per class; grey: all "
        "methods)", fontsize=9,
    )  # fmt: skip
    made.supylabel("test recall (%)", fontsize=9)
    save(made, path)

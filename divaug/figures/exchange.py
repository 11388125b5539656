"""Figures of the study of breadth against number: the design, the factorial, phi, and kinds kept and withheld."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.figures.style import COLORS, MARKERS, figure, save

ARMS = {"A": (0, 0), "B": (0, 1), "C": (1, 0), "D": (1, 1)}  # (2n images, all kinds)
_GREY = "#666666"


def design(path: Path, n: int, kinds: int) -> Path:
    """Draw the four arms as sets of images, one column of dots per kind; kinds left out are crossed out.

    Args:
        path: Output file.
        n: Images of arms A and B.
        kinds: Kinds of a class.
    """
    made, axes = figure(10.4, 2.5, 1, 4)
    shown = 8  # columns, however many kinds there are
    for axis, (name, (more, broad)) in zip(axes.flat, ARMS.items(), strict=True):
        used = shown if broad else shown // 2
        height = (2 if more else 1) * shown // used
        for kind in range(shown):
            color, marker = COLORS[kind % len(COLORS)], MARKERS[kind % len(MARKERS)]
            if kind < used:
                axis.plot(np.full(height, kind), np.arange(height), marker, color=color, markersize=8)
            else:
                axis.plot(kind, 0, "x", color="#BBBBBB", markersize=6)
        axis.set_xlim(-0.7, shown - 0.3)
        axis.set_ylim(-0.6, 3.6)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        what = f"all {kinds} kinds" if broad else f"{kinds // 2} of {kinds} kinds"
        axis.set_title(f"{name}: {2 * n if more else n} images\nof {what}", fontsize=10)
    save(made, path)
    return path


def factorial(path: Path, panels: Mapping[str, Mapping[str, np.ndarray]], n: int) -> Path:
    """Draw the outcome of the four arms over the number of images, one panel per data set, one line per breadth.

    Args:
        path: Output file.
        panels: Title to arm to outcome in points, one value per unit.
        n: Images of arms A and B.
    """
    from divaug.base.stats import t_interval

    made, axes = figure(3.6 * len(panels) + 0.4, 3.6, 1, len(panels), squeeze=False)
    for axis, (title, arms) in zip(axes.flat, panels.items(), strict=True):
        level = np.mean([arms[name] for name in ARMS], axis=0)  # of each unit: the arms are compared within units
        for index, (label, names) in enumerate((("half of the kinds", "AC"), ("all kinds", "BD"))):
            means = np.array([arms[name].mean() for name in names])
            spans = np.array([t_interval((arms[name] - level).tolist()) for name in names]) + level.mean()
            axis.errorbar(
                (0, 1), means, yerr=np.abs(spans.T - means), color=COLORS[index], marker=MARKERS[index], capsize=3,
                linestyle=("--", "-")[index], label=label,
            )  # fmt: skip
        axis.set_xticks((0, 1), (f"{n}", f"{2 * n}"))
        axis.set_xlim(-0.25, 1.25)
        axis.set_xlabel("training images of a rare class")
        axis.set_title(title, fontsize=10)
    axes.flat[0].set_ylabel("recall of the rare classes (%),\nprior-corrected")
    axes.flat[0].legend(fontsize=8, frameon=False, loc="upper left")
    save(made, path)
    return path


def phi(path: Path, rows: Sequence[Mapping[str, Any]], words: Any) -> Path:
    """Draw phi with its interval for each design, among the bounds that decide on the word.

    Args:
        path: Output file.
        rows: ``label``, ``effect``, ``lo``, ``hi`` (infinite where unbounded), ``said`` (shown beside it), ``primary``.
        words: Bounds: ``negligible``, ``low``, ``half``, ``high``.
    """
    made, axis = figure(9.6, 0.6 * len(rows) + 1.7)
    axis.grid(visible=False)
    axis.axvspan(-words.negligible, words.negligible, color="#EEEEEE")
    axis.axvspan(words.low, words.high, color="#E2E2E2")
    for bound in (0, words.half, 1):
        axis.axvline(bound, color=_GREY, linewidth=0.8, linestyle=":" if bound else "-")
    for row, one in enumerate(rows):
        color = COLORS[0] if one["primary"] else _GREY
        ends = [float(np.clip(one[key], -0.3, 1.1)) for key in ("lo", "hi")]
        axis.plot(ends, (row, row), color=color, linewidth=2.4 if one["primary"] else 1.3, clip_on=False)
        for end, mark in zip(ends, "<>", strict=True):  # an arrow where the interval goes on
            if end in (-0.3, 1.1):
                axis.plot(end, row, mark, color=color, markersize=6, clip_on=False)
        if -0.3 < one["effect"] < 1.1:
            axis.plot(one["effect"], row, "D" if one["primary"] else "o", color=color, markersize=7)
        axis.text(1.14, row, one["said"], fontsize=9, va="center")
    axis.set_yticks(range(len(rows)), [one["label"] for one in rows], fontsize=10)
    axis.set_ylim(len(rows) - 0.5, -0.8)
    axis.set_xlim(-0.3, 1.1)
    axis.set_xticks(
        (0, 0.25, 0.5, 0.75, 1), ("0\nonly number counts", "0.25", "0.5\nalike", "0.75", "1\nonly kinds count")
    )
    axis.text(0, -0.62, "negligible", fontsize=8, ha="center", color=_GREY)
    axis.text(words.half, -0.62, "comparable", fontsize=8, ha="center", color=_GREY)
    axis.set_xlabel("φ: of what halving images and kinds costs, the share due to the kinds")
    save(made, path)
    return path


def sides(path: Path, panels: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Path:
    """Draw effects on kinds that the narrow arms keep and on those that they never see, one panel per data set.

    Args:
        path: Output file.
        panels: Title to label (``"D - A, kept kinds"``) to effect and interval in points.
    """
    made, axes = figure(3.8 * len(panels) + 1.2, 2.9, 1, len(panels), squeeze=False, sharey=True)
    for axis, (title, effects) in zip(axes.flat, panels.items(), strict=True):
        axis.grid(visible=False)
        axis.axvline(0, color=_GREY, linewidth=0.8)
        for row, (label, (effect, low, high)) in enumerate(effects.items()):
            kept = "kept" in label
            axis.plot((low, high), (row, row), color=COLORS[0 if kept else 1], linestyle="-" if kept else "--")
            axis.plot(effect, row, "o" if kept else "s", color=COLORS[0 if kept else 1])
        axis.set_yticks(range(len(effects)), list(effects), fontsize=8)
        axis.set_ylim(len(effects) - 0.5, -0.5)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("points of recall")
    save(made, path)
    return path

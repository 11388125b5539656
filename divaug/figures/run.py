"""Figures of one run: recall by class size, who is taken for whom, and the growth of each class's top-K set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from divaug.figures.confusion import confusion, taken_for
from divaug.figures.style import MOST_NAMES, by_rank, class_ticks, figure, named, save


def figures_of(
    rows: list[dict[str, Any]], manifest: dict[str, Any], confusions: Callable[[], np.ndarray]
) -> dict[str, Callable[[Path], Any]]:
    """Return what draws each figure, by file name.

    They are ``recall.png``; with few enough classes to be named ``confusion.png`` and ``taken_for.png``; and where the
    monitor was on ``growth.png``.

    Args:
        rows: Rows of ``metrics.jsonl``, undefined numbers as NaN.
        manifest: The run's manifest.
        confusions: Returns the confusion matrix of the test part, ``(C, C)``: labels in rows. It reads another file.
    """
    counts = np.array(manifest["counts"])
    order = np.argsort(-counts, kind="stable")
    figures: dict[str, Callable[[Path], Any]] = {"recall.png": lambda path: _recall(path, rows[-1], manifest)}
    if len(order) <= MOST_NAMES:
        names = [manifest["class_names"][c] for c in order]
        figures["confusion.png"] = lambda path: confusion(path, confusions()[np.ix_(order, order)], names)
        figures["taken_for.png"] = lambda path: taken_for(path, confusions()[np.ix_(order, order)], names)
    if "views/number" in rows[-1]["per_class"]:
        figures["growth.png"] = lambda path: _growth(path, rows, manifest)
    return figures


def _recall(path: Path, row: dict[str, Any], manifest: dict[str, Any]) -> None:
    counts = np.array(manifest["counts"])
    order = np.argsort(-counts, kind="stable")
    values = 100 * np.array(row["per_class"]["test/recall"])[order]
    names = [manifest["class_names"][c] for c in order]
    if len(order) > MOST_NAMES:
        made, axis = figure(8.0, 4.2)
        by_rank(axis, [values], counts[order], names)
        axis.set(ylim=(-2, 102), ylabel="test recall (%)")
        save(made, path)
        return
    made, axis = figure(max(5.0, 0.45 * len(order) + 1.5), 4.0)
    axis.bar(range(len(order)), values, color="#0072B2")
    for x, value in enumerate(values):
        if np.isnan(value):
            axis.text(x, 1, "no test\nimage", ha="center", va="bottom", fontsize=7)
    ticks = class_ticks(names, counts[order].tolist())
    axis.set_xticks(range(len(order)), ticks, rotation=60, ha="right", fontsize=8)
    axis.set(ylim=(0, 100), ylabel="test recall (%)", xlabel="class (training images)")
    save(made, path)


def _growth(path: Path, rows: list[dict[str, Any]], manifest: dict[str, Any]) -> None:
    from matplotlib import colormaps

    counts = np.array(manifest["counts"])
    order = np.argsort(-counts, kind="stable")
    epochs = [row["epoch"] + 1 for row in rows]
    plain = np.array([row["per_class"]["views/number"] for row in rows], dtype=float)
    kind = "augmented views"
    if np.isnan(plain).all() and "views/number_mixed" in rows[-1]["per_class"]:
        missing = [float("nan")] * len(counts)
        plain = np.array([row["per_class"].get("views/number_mixed", missing) for row in rows], dtype=float)
        kind = "mixed views"
    made, axis = figure(7.0, 4.2)
    shades = colormaps["viridis"](np.linspace(0, 0.9, len(order)))
    dashes = ("-", "--", ":")
    for rank, c in enumerate(order):
        axis.plot(
            epochs,
            plain[:, c],
            color=shades[rank],
            linestyle=dashes[rank % 3],
            marker="o" if len(epochs) == 1 else None,
            label=f"{named(manifest['class_names'][c])} ({counts[c]})",
        )
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="epoch", ylabel=f"distinct features in the class's top-K CE\n(over an epoch's {kind})")
    if len(order) <= 20:
        axis.legend(
            fontsize=7,
            ncols=1,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            title="class (n)",
            frameon=False,
        )
    save(made, path)

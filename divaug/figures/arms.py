"""Arms of a study in many cells: mean and interval of each, one panel for a cell and score."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.stats import t_interval
from divaug.figures.style import figure, save

MOST_COLUMNS = 4


def draw_arms(
    path: Path, tables: Mapping[str, Any], titles: Mapping[str, str], name: Callable[[str], str] = str
) -> Path:
    """Draw and return the file.

    Args:
        path: Output file.
        tables: Score to a Series of lists of values over cuts, by cell and arm.
        titles: Score to its name.
        name: Makes an arm's name readable.
    """
    cells = list(dict.fromkeys(cell for table in tables.values() for cell, _ in table.index))
    arms = list(dict.fromkeys(arm for table in tables.values() for _, arm in table.index))
    columns = min(MOST_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    made, axes = figure(
        2.2 + 2.3 * columns, 0.6 + (0.25 * len(arms) + 0.9) * rows * len(tables), rows * len(tables), columns,
        sharey=True, squeeze=False,
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_visible(False)
    for block, (score, table) in enumerate(tables.items()):
        for number, cell in enumerate(cells):
            axis = axes[block * rows + number // columns][number % columns]
            axis.set_visible(True)
            for place, arm in enumerate(arms):
                if (cell, arm) not in table.index:
                    continue
                values = table[cell, arm]
                low, high = t_interval(values)
                mean = float(np.mean(values))
                if not np.isnan(low):
                    axis.plot([low, high], [place, place], color="#666666", linewidth=1.2)
                axis.plot(mean, place, marker="o", color="#0072B2", markersize=5)
            axis.set_title(cell, fontsize=9)
            axis.set_xlabel(f"{titles[score]} (%)", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.set_yticks(range(len(arms)), [name(arm) for arm in arms])
            axis.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes[0][0].invert_yaxis()
    save(made, path)
    return path

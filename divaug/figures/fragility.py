"""Figures of the fragility study: effects with intervals, masking curves, planted patches."""

from pathlib import Path

import numpy as np

from divaug.figures.style import COLORS, GROUP_LINES, MARKERS, figure, save


def effects(path: Path, labels: list[str], values: list[np.ndarray], nulls: list[tuple[float, float] | None]) -> Path:
    """Draw each effect's seeds, mean and the null's interval, each on a scale of its own standard deviation.

    Args:
        path: Output file.
        labels: One per effect.
        values: Its value by seed.
        nulls: Interval of the mean where nothing but the seed differs, or None.
    """
    made, axis = figure(8.0, 0.24 * len(labels) + 1.0)
    axis.grid(visible=False)
    axis.axvline(0, color="#888888", linewidth=0.8)
    for row, (seeds, null) in enumerate(zip(values, nulls, strict=True)):
        known = seeds[~np.isnan(seeds)]
        deviation = known.std(ddof=1) if len(known) > 1 and known.std() > 0 else 1.0
        if null is not None:
            axis.barh(row, (null[1] - null[0]) / deviation, left=null[0] / deviation, color="#DDDDDD", height=0.7)
        axis.plot(known / deviation, np.full(len(known), row), "o", color=COLORS[0], markersize=3, alpha=0.6)
        axis.plot(known.mean() / deviation, row, "D", color=COLORS[1], markersize=6)
    axis.set_yticks(range(len(labels)), labels, fontsize=7)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlabel("effect / its sd over seeds (dots: seeds; diamond: mean; grey: seed null)", fontsize=9)
    save(made, path)
    return path


def masking(path: Path, ks: list[int], lost: dict[str, dict[str, np.ndarray]]) -> Path:
    """Draw the recall lost with masked features over K, one panel per tercile.

    Args:
        path: Output file.
        ks: Sizes.
        lost: Tercile to kind ("top", "matched", "random") to ``(seeds, len(ks))``, shares of the class's recall.
    """
    made, axes = figure(3.0 * len(lost) + 0.6, 3.2, 1, len(lost), sharey=True, squeeze=False)
    for axis, (tercile, kinds) in zip(axes.flat, lost.items(), strict=True):
        for index, (kind, values) in enumerate(kinds.items()):
            mean, deviation = 100 * values.mean(0), 100 * values.std(0, ddof=1) if len(values) > 1 else None
            axis.errorbar(
                range(len(ks)), mean, yerr=deviation, marker=MARKERS[index], color=COLORS[index], label=kind, capsize=2,
                linestyle=("-", "--", ":")[index], markersize=4,
            )  # fmt: skip
        axis.set_xticks(range(len(ks)), [str(k) for k in ks])
        axis.set_title(f"{tercile} classes", fontsize=9)
        axis.set_xlabel("features masked (K)")
    axes.flat[0].set_ylabel("test recall lost (% of the class's own)")
    axes.flat[0].legend(fontsize=7, frameon=False)
    save(made, path)
    return path


def patches(path: Path, shares: list[float], panels: dict[str, dict[str, np.ndarray]]) -> Path:
    """Draw what a planted patch does as its share grows, one panel per measure, one line per class.

    Args:
        path: Output file.
        shares: Shares of the class's training images with the patch.
        panels: Measure to "rare" and "frequent" to ``(seeds, len(shares))``.
    """
    made, axes = figure(3.4 * len(panels) + 0.4, 3.2, 1, len(panels), squeeze=False)
    for axis, (measure, lines) in zip(axes.flat, panels.items(), strict=True):
        for index, (which, values) in enumerate(lines.items()):
            deviation = values.std(0, ddof=1) if len(values) > 1 else None
            axis.errorbar(
                100 * np.array(shares), values.mean(0), yerr=deviation, marker=MARKERS[index], color=COLORS[index],
                label=f"{which} class", capsize=2, linestyle=list(GROUP_LINES.values())[index], markersize=4,
            )  # fmt: skip
        axis.set_title(measure, fontsize=9)
        axis.set_xlabel("training images with the patch (%)")
        axis.set_ylim(-0.05, 1.05)
    axes.flat[0].legend(fontsize=7, frameon=False)
    save(made, path)
    return path

"""What a comparison may conclude: differences with intervals, classes helped and hurt, and what is no result."""

import math
from collections.abc import Sequence

import numpy as np

from divaug.base.metrics import nanmean
from divaug.base.stats import runs_needed, t_interval
from divaug.base.text import one_line
from divaug.runs.folder import RunFolder

FITTED = 90.0  # % of its own tail's training images that a network should recognise before methods are compared


def number(folder: RunFolder, key: str) -> float:
    """Return one number of a run's result, NaN where it is undefined."""
    value = folder.result.get(key)
    return float("nan") if value is None else float(value)


def differences(runs: dict[str, list[RunFolder]]) -> list[str]:
    """Compare every method with the first: mean difference over the seeds they share, its t interval, and power."""
    base = next(iter(runs))
    if len(runs) < 2:
        return []
    lines = [f"Differences from {base} in points, with 95 % t intervals over seeds (for each method alone):"]
    for label in [label for label in runs if label != base]:
        for key, title in (("test_bal_acc", "bal"), ("test_prior_corrected_bal_acc", "prior-corr.")):
            ours, theirs = ({f.config.seed: number(f, f"final/{key}") for f in runs[name]} for name in (label, base))
            paired = [100 * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
            lines.append(f"  {label}, {title}: {difference(paired)}")
    return lines


def difference(paired: Sequence[float]) -> str:
    """Say in words what paired differences in points show: better, worse, or that these runs cannot tell.

    Args:
        paired: One per run, in points; NaN are left out.
    """
    known = [value for value in paired if not math.isnan(value)]
    if not known:
        return "no seed in common: these runs cannot tell"
    mean = f"{np.mean(known):+.1f}"
    if len(known) < 2:
        return f"{mean} in one run each: these runs cannot tell; give --seeds 0-4"
    low, high = t_interval(known)
    verdict = "better" if low > 0 else "worse" if high < 0 else "these runs cannot tell"
    sd = float(np.std(known, ddof=1))
    if sd == 0:  # networks that learned nothing, most often
        return f"{mean} in all {len(known)} runs, without any spread: these runs cannot tell"
    needed = [runs_needed(sd, points) for points in (1.0, 2.0)]
    shown = " and ".join(f"{n:,}" if n < 10_000 else "10,000 or more" for n in needed)
    return f"{mean} [{low:+.1f}, {high:+.1f}], n = {len(known)}: {verdict}; 1 and 2 points need about {shown} runs"


def unfinished(runs: dict[str, list[RunFolder]]) -> list[str]:
    """Say which networks are no result: they predict one class, or have not learned their own tail."""
    notes = []
    for label, folders in runs.items():
        for folder in folders:
            if number(folder, "final/test_predicted_classes") == 1:
                recall = np.array(folder.metrics.rows()[-1]["per_class"]["test/recall"], dtype=float)
                name = one_line(folder.manifest["class_names"][int(np.nanargmax(recall))])
                notes.append(f"{label}, seed {folder.config.seed}, predicts one class ({name}): that is no result.")
    low = {}
    for label, folders in runs.items():
        share = 100 * nanmean(np.array([number(f, "final/train_clean_acc_tail") for f in folders]))
        if share < FITTED:
            low[label] = share
    if low:
        shown = ", ".join(f"{label} {share:.0f}" for label, share in low.items())
        notes.append(
            f"Not trained to the end: the recall on their own training images of the tail is below {FITTED:.0f} % "
            f"({shown}). More --epochs can change the order."
        )
    return notes


def helped_and_hurt(runs: dict[str, list[RunFolder]], shown: int = 3) -> list[str]:
    """Say for every method which classes it made better or worse than erm (or the first), in points of recall."""
    base = "erm" if "erm" in runs else next(iter(runs))
    first, others = runs[base], [(label, folders) for label, folders in runs.items() if label != base]
    names = [one_line(name) for name in first[0].manifest["class_names"]]
    recalls = {
        label: {f.config.seed: np.array(f.metrics.rows()[-1]["per_class"]["test/recall"], dtype=float) for f in folders}
        for label, folders in runs.items()
    }
    lines = []
    for label, _ in others:
        seeds = sorted(recalls[base].keys() & recalls[label].keys())
        if not seeds:
            continue
        change = 100 * np.mean([recalls[label][seed] - recalls[base][seed] for seed in seeds], axis=0)
        order = np.argsort(-np.nan_to_num(change), kind="stable")
        parts = []
        for word, classes in (("better", order), ("worse", order[::-1])):
            moved = [c for c in classes if (change[c] > 0.05 if word == "better" else change[c] < -0.05)]
            most = ", ".join(f"{names[c]} {change[c]:+.1f}" for c in moved[:shown])
            parts.append(f"{word} in {len(moved)}" + (f" ({most})" if most else ""))
        lines.append(f"{label} against {base}, classes by test recall: {'; '.join(parts)}.")
    return lines

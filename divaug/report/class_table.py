"""Each class of a run, or of a method's runs: its images and its recall, with an interval."""

import math
from collections.abc import Sequence
from zipfile import BadZipFile

import numpy as np

from divaug.base.metrics import softmax
from divaug.base.stats import effective_number, wilson_interval
from divaug.base.text import one_line, span
from divaug.runs.folder import RunFolder


def class_table(folders: Sequence[RunFolder]) -> str:
    """Return a table of each class's training and test images and its mean recall over a method's runs, with interval.

    The interval is Wilson's for the mean recall as a share of the class's test images (the fewest, where runs have
    other test parts; images of one group count as fewer, see ``effective_number``). It covers the chance in those
    images, not the differences between seeds.
    """
    manifest = folders[0].manifest
    trained, tested = (
        [span(column) for column in zip(*(f.manifest[key] for f in folders), strict=True)]
        for key in ("counts", "test_counts")
    )
    values = [f.metrics.rows()[-1]["per_class"]["test/recall"] for f in folders]
    recalls = _mean_known(np.array(values, dtype=float))
    names = [one_line(name) for name in manifest["class_names"]]
    width = max(len(name) for name in [*names, "class"])
    size = max(6, *map(len, [*trained, *tested]))
    independent = [_independent(folder) for folder in folders]
    lines = [f"{'class'.ljust(width)}  {'train':>{size}}  {'test':>{size}}  {'recall %':>8}  95 % interval"]
    order = np.argsort(-np.mean([f.manifest["counts"] for f in folders], axis=0), kind="stable")
    for c in order:
        recall, interval = "-", ""
        if not math.isnan(recalls[c]):
            recall = f"{100 * recalls[c]:.1f}"
            low, high = wilson_interval(float(recalls[c]), min(counts[c] for counts in independent))
            interval = f"  {100 * low:>5.1f} to {100 * high:>5.1f}"
        lines.append(f"{names[c].ljust(width)}  {trained[c]:>{size}}  {tested[c]:>{size}}  {recall:>8}{interval}")
    return "\n".join(lines)


def _independent(folder: RunFolder) -> list[float]:
    """Return as how many independent test images those of every class count, at least 1: fewer if they have groups."""
    counts = [float(max(1, count)) for count in folder.manifest["test_counts"]]
    try:
        with np.load(folder.path / "test_outputs.npz") as outputs:
            if "groups" not in outputs:
                return counts
            logits, labels, groups = (outputs[key] for key in ("logits", "labels", "groups"))
    except (OSError, ValueError, KeyError, BadZipFile):  # an older or damaged folder has a table too
        return counts
    for c in np.unique(labels):
        own = labels == c
        counts[c] = effective_number(softmax(logits[own].astype(np.float64))[:, c], groups[own])
    return counts


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Return the means of columns over what is known in them, NaN where nothing is."""
    known = ~np.isnan(values)
    return np.where(known.any(0), np.nansum(values, axis=0) / np.maximum(known.sum(0), 1), np.nan)

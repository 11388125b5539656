"""Comparison of runs: the tidy per-class table of a run, and methods compared over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DivaugError
from divaug.base.files import make_folder, write_text
from divaug.base.groups import GROUPS, rank_groups
from divaug.base.metrics import nanmean
from divaug.base.record import TITLES
from divaug.base.stats import wilson_interval
from divaug.base.text import one_line
from divaug.config.tables import protocol_fingerprint
from divaug.latent.rarefaction import ceiling
from divaug.report.conclusions import differences, helped_and_hurt, number, unfinished
from divaug.runs.folder import RunFolder

_COLUMNS = {title: f"final/{key}" for key, title in TITLES.items()}


@dataclass(frozen=True)
class Comparison:
    """Finished runs of one protocol.

    Attributes:
        runs: Method label to its runs, by seed.
        text: The table, as printed.
    """

    runs: dict[str, list[RunFolder]]
    text: str


def compare(folders: Sequence[RunFolder]) -> list[Comparison]:
    """Compare finished runs, one comparison per protocol and data set: neither is ever mixed.

    Raises:
        DivaugError: No run is finished.
    """
    by_protocol: dict[tuple[str, str], list[RunFolder]] = {}
    for folder in folders:
        if folder.finished:
            same = protocol_fingerprint(folder.config), folder.manifest["data"]
            by_protocol.setdefault(same, []).append(folder)
    if not by_protocol:
        raise DivaugError("no finished run to compare")
    comparisons = []
    for (fingerprint, data), members in by_protocol.items():
        runs: dict[str, list[RunFolder]] = {}
        for folder in members:
            same = [f for f in runs.setdefault(folder.label, []) if f.config.seed == folder.config.seed]
            if same:
                raise DivaugError(
                    f"{same[0].path} and {folder.path} are one run twice, or two runs of one seed; name one"
                )
            runs[folder.label].append(folder)
        config, manifest = members[0].config, members[0].manifest
        counts = [sum(folder.manifest["counts"]) for folder in members]
        head = (
            f"{config.dataset}, {config.profile}, imbalance factor {config.imbalance_factor:g}; "
            f"preset {config.preset}, {config.model.name}, "
            f"{span([folder.config.epochs for folder in members])} epochs; protocol {fingerprint}, data {data}\n"
            f"train {span(counts)}, test {sum(manifest['test_counts'])} images, "
            f"{len(manifest['counts'])} classes of {max(manifest['counts'])} to {min(manifest['counts'])}"
        )
        if config.profile not in ("exp", "step", "balanced_small"):
            head = head.replace(f", imbalance factor {config.imbalance_factor:g}", "")
        comparisons.append(Comparison(runs, f"{head}\n\n{_table(runs)}"))
    return comparisons


def span(numbers: Sequence[int]) -> str:
    """Return "5", or "5 to 9"."""
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"


def mean_sd(values: Sequence[float], scale: float = 100.0, digits: int = 1) -> str:
    """Return "mean ± sd", without sd for a single value, and "-" where no value is defined."""
    known = [scale * value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{np.mean(known):.{digits}f} ± {np.std(known, ddof=1):.{digits}f}"


def rarefied_size(manifest: dict[str, Any]) -> int:
    """Return the m of a table's rarefied numbers: 20, 5, or the smallest class's size if that is 3 or 4.

    A class with fewer than m images has no rarefied number and is left out of its group's mean.
    """
    smallest = min(manifest["cut_counts"])
    if smallest >= 20:
        return 20
    return smallest if smallest in (3, 4) else 5


def _table(runs: dict[str, list[RunFolder]]) -> str:
    first = next(iter(runs.values()))[0]
    m = rarefied_size(first.manifest)
    diverse = f"final/train_clean_rarefied_{m}_tail"
    top = _ceiling(first, m)
    common = f"final/encoder_views_rarefied_{m}_tail"
    judged = any(common in f.result for folders in runs.values() for f in folders)
    rows = [["method", "seeds", *_COLUMNS, f"top-K tail m={m}", *([f"common m={m}"] if judged else []), "seconds"]]
    for label, folders in runs.items():
        cells = [mean_sd([number(f, key) for f in folders]) for key in _COLUMNS.values()]
        latent = mean_sd([number(f, diverse) for f in folders], scale=1.0)
        seconds = mean_sd([number(f, "final/train_seconds") for f in folders], scale=1.0, digits=0)
        encoded = [mean_sd([number(f, common) for f in folders], scale=1.0)] if judged else []
        rows.append([label, str(len(folders)), *cells, latent, *encoded, seconds])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)])
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    notes = [
        "Test recall in %, last epoch, mean ± sd over seeds.",
        "prior-corr.: balanced accuracy after a cross-fitted correction of the class priors.",
    ]
    if top:
        notes.append(
            f"top-K tail: distinct top-{first.config.top_k} CE expected in {m} clean training images of a tail "
            f"class; ceiling {top}; classes with fewer images are left out."
        )
    if judged:
        notes.append(
            f"common: distinct top-{first.config.top_k} FE expected in {m} plain views of a tail class's last epoch, in"
            " the common encoder's space."
        )
    notes += [*differences(runs), *helped_and_hurt(runs), *unfinished(runs)]
    return "\n".join([*lines, "", *notes])


def _ceiling(folder: RunFolder, m: int) -> int:
    config = folder.config
    return ceiling(int(number(folder, "final/feature_dim")), m, config.top_k) if config.monitor else 0


def class_table(folders: Sequence[RunFolder]) -> str:
    """Return a table of each class's training and test images and its mean recall over a method's runs, with interval.

    The interval is Wilson's for the mean recall as a share of the class's test images (the fewest, where runs have
    other test parts). It covers the chance in those images, not the differences between seeds.
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
    lines = [f"{'class'.ljust(width)}  {'train':>{size}}  {'test':>{size}}  {'recall %':>8}  95 % interval"]
    order = np.argsort(-np.mean([f.manifest["counts"] for f in folders], axis=0), kind="stable")
    for c in order:
        recall, interval = "-", ""
        if not math.isnan(recalls[c]):
            recall = f"{100 * recalls[c]:.1f}"
            fewest = max(1, min(f.manifest["test_counts"][c] for f in folders))
            low, high = wilson_interval(float(recalls[c]), fewest)
            interval = f"  {100 * low:>5.1f} to {100 * high:>5.1f}"
        lines.append(f"{names[c].ljust(width)}  {trained[c]:>{size}}  {tested[c]:>{size}}  {recall:>8}{interval}")
    return "\n".join(lines)


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Return the means of columns over what is known in them, NaN where nothing is."""
    known = ~np.isnan(values)
    return np.where(known.any(0), np.nansum(values, axis=0) / np.maximum(known.sum(0), 1), np.nan)


def write_report(folder: Path, comparison: Comparison) -> list[Path]:
    """Write the table and the figures of a comparison; return the files."""
    from divaug.figures.compare import Series, draw_comparison

    make_folder(folder)
    table = folder / "table.txt"
    first = next(iter(comparison.runs.values()))[0]
    notes = "".join(f"\n- {note}" for note in first.manifest.get("notes", ()))
    write_text(table, comparison.text + "\n" + (f"\nNoticed in the data:{notes}\n" if notes else ""))
    m = rarefied_size(first.manifest)
    manifests = {id(f): f.manifest for folders in comparison.runs.values() for f in folders}
    # Where seeds give the classes other sizes, a class is no axis: its rank by size is.
    ranked = len({manifest.get("class_order") for manifest in manifests.values()}) > 1
    orders = {key: np.argsort(-np.array(manifest["counts"]), kind="stable") for key, manifest in manifests.items()}
    series = []
    for label, folders in comparison.runs.items():
        logs = [f.metrics.rows() for f in folders]
        last = [log[-1]["per_class"] for log in logs]
        where = [orders[id(f)] if ranked else slice(None) for f in folders]
        recall = np.array([np.array(row["test/recall"], dtype=float)[w] for row, w in zip(last, where, strict=True)])
        rarefied = None
        if all(f"train_clean/rarefied_{m}" in row for row in last):
            values = [np.array(row[f"train_clean/rarefied_{m}"], dtype=float) for row in last]
            rarefied = np.array([of_run[w] for of_run, w in zip(values, where, strict=True)])
        groups = [rank_groups(np.array(manifests[id(f)]["group_counts"])) for f in folders]
        growth = {
            name: _growth_of(logs, [of_run[name] for of_run in groups], f"rarefied_{m}")
            for name in GROUPS if len(groups[0][name])
        }  # fmt: skip
        series.append(Series(label, recall, rarefied, growth))
    counts = [
        np.array(manifest["counts"])[orders[key] if ranked else slice(None)] for key, manifest in manifests.items()
    ]
    names = [f"rank {c + 1}" for c in range(len(counts[0]))] if ranked else first.manifest["class_names"]
    mean = np.mean(counts, axis=0).round().astype(int)
    return [table, *draw_comparison(folder, series, names, mean, m, _ceiling(first, m))]


def _growth_of(logs: list[list[dict[str, Any]]], classes: list[np.ndarray], statistic: str) -> np.ndarray:
    """Return a group's mean of a statistic by seed and epoch, over plain views or, without any, over mixed ones."""
    curves = []
    for log, members in zip(logs, classes, strict=True):
        if f"views/{statistic}" not in log[-1]["per_class"]:
            return np.empty((0, 0))
        missing = [float("nan")] * len(log[-1]["per_class"][f"views/{statistic}"])
        for name in (statistic, f"{statistic}_mixed"):
            values = [np.array(row["per_class"].get(f"views/{name}", missing), dtype=float)[members] for row in log]
            if not np.isnan(values).all():
                break
        curves.append([nanmean(value) for value in values])
    return np.array(curves)

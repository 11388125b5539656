"""Comparison of runs: the tidy per-class table of a run, and methods compared over seeds."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from divaug.base.errors import DivaugError
from divaug.base.record import TITLES
from divaug.base.stats import wilson_interval
from divaug.base.text import one_line
from divaug.config.tables import protocol_fingerprint
from divaug.latent.rarefaction import ceiling
from divaug.report.contrasts import FEW, RECALL, baseline_of, contrasts, helped_and_hurt, lines_of, unfinished
from divaug.runs.folder import RunFolder

_RAREFIED = re.compile(r"_rarefied_(\d+)_")


@dataclass(frozen=True)
class Asked:
    """How methods are compared.

    Attributes:
        baseline: The method that others are compared with; None is erm, or the first where there is no erm.
        named: The methods whose differences are tested, with one correction over them; none are all.
        margin: The largest difference, in points, that does not matter.
    """

    baseline: str | None = None
    named: tuple[str, ...] = ()
    margin: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """Finished runs of one protocol and data set.

    Attributes:
        name: Protocol and data: two comparisons differ in it.
        head: What they have in common.
        table: One row per run: ``method``, ``seed``, final metrics as shares, ``recall_<class>``.
        contrasts: Differences from the baseline, as ``report.contrasts`` gives them.
        notes: What the numbers are and what they show.
        runs: Method label to its runs, by seed; none where only rows are known.
        asked: How they were compared.
    """

    name: str
    head: str
    table: Any
    contrasts: Any
    notes: list[str]
    runs: dict[str, list[RunFolder]]
    asked: Asked

    @property
    def text(self) -> str:
        """The comparison as printed."""
        return "\n".join([self.head, "", *_lines(self.table), "", *self.notes])


def compare(folders: Sequence[RunFolder], asked: Asked = Asked()) -> list[Comparison]:
    """Compare finished runs, one comparison per protocol and data set: neither is ever mixed.

    Args:
        folders: Runs; unfinished ones are left out.
        asked: How.

    Raises:
        ConfigError: A method that is named has no run in any comparison.
        DivaugError: No run is finished, or one seed of a method is there twice.
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
        if config.profile not in ("exp", "linear", "step", "balanced_small"):
            head = head.replace(f", imbalance factor {config.imbalance_factor:g}", "")
        comparisons.append(_compared(f"{fingerprint}-{data}", head, frame_of(runs), asked, runs))
    return comparisons


def compare_rows(rows: Any, asked: Asked = Asked()) -> list[Comparison]:
    """Compare the rows of a CSV that ``--results`` wrote, as ``compare`` does; there are no figures.

    Args:
        rows: What ``results.read`` returned.
        asked: How.
    """
    comparisons, keys = [], ["experiment", "protocol", "data"]
    for (experiment, protocol, data), members in rows.groupby(keys, sort=False):
        table = members.drop_duplicates(["method", "seed"], keep="last").dropna(axis=1, how="all")
        epochs = f"{span(table['epochs'].tolist())} epochs; " if "epochs" in table else ""
        head = f"{experiment}; {epochs}protocol {protocol}, data {data}"
        name = "-".join([experiment, *([] if protocol in experiment else [protocol]), data])
        comparisons.append(_compared(name, head, table.reset_index(drop=True), asked, {}))
    return comparisons


def frame_of(runs: Mapping[str, Sequence[RunFolder]]) -> Any:
    """Return runs as a DataFrame: ``method``, ``seed``, the final metrics, ``recall_<class>``; NaN where undefined.

    Of the rarefied numbers it has those of one m, see ``rarefied_size``.
    """
    import pandas as pd

    m, rows = rarefied_size(next(iter(runs.values()))[0].manifest), []
    for label, folders in runs.items():
        for folder in folders:
            known = {k.removeprefix("final/"): math.nan if v is None else v for k, v in folder.result.items()}
            final = {k: v for k, v in known.items() if (found := _RAREFIED.search(k)) is None or int(found[1]) == m}
            recall = folder.metrics.rows()[-1]["per_class"]["test/recall"]
            of_class = {f"{RECALL}{name}": r for name, r in zip(folder.manifest["class_names"], recall, strict=True)}
            rows.append(
                {
                    "method": label,
                    "seed": folder.config.seed,
                    **final,
                    **of_class,
                    "top_k": folder.config.top_k,
                    "tuned": folder.config.tuned,
                }
            )
    return pd.DataFrame(rows)


def _compared(name: str, head: str, table: Any, asked: Asked, runs: dict[str, list[RunFolder]]) -> Comparison:
    found = contrasts(table, baseline=asked.baseline, named=asked.named, margin=asked.margin)
    base = baseline_of(list(dict.fromkeys(table["method"])), asked.baseline)
    notes = [*_meaning(table), *lines_of(found)]
    if table["method"].nunique() <= FEW + 1:  # of more methods they are in the report
        notes += helped_and_hurt(table, base)
    notes += unfinished(table)
    return Comparison(name, head, table, found, notes, runs, asked)


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


def rarefied_at(table: Any, space: str) -> int | None:
    """Return the m of a table's rarefied numbers of the tail in a space: the largest that it has, None without any."""
    for m in (20, 5, 4, 3):
        if (column := f"{space}_rarefied_{m}_tail") in table and table[column].notna().any():
            return m
    return None


def columns_of(table: Any) -> dict[str, tuple[str, float]]:
    """Return the columns that a comparison shows: title to key, and what it is multiplied by."""
    shown = {title: (key, 100.0) for key, title in TITLES.items() if key in table}
    for space, title in (("train_clean", "top-K tail"), ("encoder_views", "common")):
        if (m := rarefied_at(table, space)) is not None:
            shown[f"{title} m={m}"] = f"{space}_rarefied_{m}_tail", 1.0
    return shown | ({"seconds": ("train_seconds", 1.0)} if "train_seconds" in table else {})


def _lines(table: Any) -> list[str]:
    """Return the table of methods as lines of text: mean ± sd over seeds."""
    shown = columns_of(table)
    rows = [["method", "seeds", *shown]]
    for method, runs in table.groupby("method", sort=False):
        cells = [
            mean_sd(runs[key].astype(float).tolist(), scale, digits=0 if title == "seconds" else 1)
            for title, (key, scale) in shown.items()
        ]
        rows.append([method, str(len(runs)), *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)])
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return lines


def _meaning(table: Any) -> list[str]:
    """Return what the columns are."""
    notes = [
        "Test recall in %, last epoch, mean ± sd over seeds.",
        "prior-corr.: balanced accuracy after a cross-fitted correction of the class priors.",
    ]
    notes += _tuning(table)
    k, width = (table[key].dropna().tolist() if key in table else [] for key in ("top_k", "feature_dim"))
    top = f"top-{int(k[0])}" if k else "top-K"
    if (m := rarefied_at(table, "train_clean")) is not None:
        most = f"; ceiling {ceiling(int(width[0]), m, int(k[0]))}" if k and width else ""
        notes.append(
            f"top-K tail: distinct {top} CE expected in {m} clean training images of a tail class{most}; classes with "
            "fewer images are left out."
        )
    if (m := rarefied_at(table, "encoder_views")) is not None:
        notes.append(
            f"common: distinct {top} FE expected in {m} plain views of a tail class's last epoch, in the common "
            "encoder's space."
        )
    return notes


def _tuning(table: Any) -> list[str]:
    """Say how the options of methods were chosen: one that was tuned more than another has an advantage."""
    trials = table["tuned"].fillna(0).astype(int) if "tuned" in table else table["seed"] * 0
    tuned = trials.groupby(table["method"], sort=False).max()
    if not tuned.any():
        named = any("+" in method for method in tuned.index)
        return ["Published defaults: no option was tuned" + (", and changes stand in names." if named else ".")]
    if tuned.nunique() == 1 and trials.nunique() == 1:
        said = (
            f"Tuned alike: {tuned.iloc[0]} configurations of every method (fewer where it has fewer options), drawn "
            "from its components' ranges and chosen on validation images; what was chosen stands in its name."
        )
        return [said]
    shown = ", ".join(f"{method} {k}" if k else f"{method} none" for method, k in tuned.items())
    return [f"NOT TUNED ALIKE, configurations tried: {shown}. Differences may be of tuning."]


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

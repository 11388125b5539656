"""Comparison of runs: the tidy per-class table of a run, and methods compared over seeds."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from divaug.base.errors import DivaugError
from divaug.base.record import TITLES
from divaug.base.text import span
from divaug.config.tables import protocol_fingerprint
from divaug.latent.rarefaction import ceiling
from divaug.report.contrasts import (
    FEW,
    RECALL,
    baseline_of,
    check_named,
    contrasts,
    helped_and_hurt,
    lines_of,
    overlap_of,
    unfinished,
)
from divaug.report.tuning import TUNING, read_tuning, tuning_of
from divaug.runs.folder import RunFolder
from divaug.runs.own_files import recorded

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
        folders: Runs; unfinished ones are left out, and named.
        asked: How.

    Raises:
        ConfigError: A method that is named has no run in any comparison.
        DivaugError: No run is finished, or one seed of a method is there twice.
    """
    by_protocol: dict[tuple[str, str], list[RunFolder]] = {}
    begun: dict[tuple[str, str], list[RunFolder]] = {}
    for folder in folders:
        if folder.finished:
            by_protocol.setdefault(_same(folder), []).append(folder)
        elif folder.begun:
            with suppress(DivaugError, KeyError, ValueError, OSError):  # damaged or of long ago: no reason to fail
                begun.setdefault(_same(folder), []).append(folder)
    if not by_protocol:
        raise DivaugError("no finished run to compare")
    parts = []
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
        tuning = read_tuning(members[0].path.parents[1] / TUNING)
        if tuning is not None:
            tuning = tuning[
                (tuning["data"] == data) & tuning["resolved"].isin((fingerprint, ""))
            ]  # "": an older record
        done = {(folder.label, folder.config.seed) for folder in members}
        rest = {(folder.label, folder.config.seed): None for folder in begun.get((fingerprint, data), [])}
        missing = tuple(f"{label}, seed {seed}" for label, seed in rest if (label, seed) not in done)
        parts.append(_Part(f"{fingerprint}-{data}", head, frame_of(runs), runs, tuning, missing))
    return _compared(parts, asked)


def _same(folder: RunFolder) -> tuple[str, str]:
    """Return what runs share that are compared: protocol and data."""
    return protocol_fingerprint(folder.config), folder.manifest["data"]


def compare_rows(rows: Any, asked: Asked = Asked(), tuning: Any = None) -> list[Comparison]:
    """Compare the rows of a CSV that ``--results`` wrote, as ``compare`` does; there are no figures.

    Args:
        rows: What ``results.read`` returned.
        asked: How.
        tuning: What ``read_tuning`` returned of the file beside the CSV.

    Raises:
        ConfigError: A method that is named has no run in any comparison.
    """
    parts, keys = [], ["experiment", "protocol", "data"]
    for (experiment, protocol, data), members in rows.groupby(keys, sort=False):
        table = members.drop_duplicates(["method", "seed"], keep="last").dropna(axis=1, how="all")
        epochs = f"{span(table['epochs'].tolist())} epochs; " if "epochs" in table else ""
        head = f"{experiment}; {epochs}protocol {protocol}, data {data}"
        name = "-".join([experiment, *([] if protocol in experiment else [protocol]), data])
        parts.append(_Part(name, head, table.reset_index(drop=True), {}, tuning))
    return _compared(parts, asked)


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
            own = {"method": label, "seed": folder.config.seed, "top_k": folder.config.top_k}
            own |= {"vary": folder.config.vary, "precision": folder.config.precision, **split_of(folder)}
            own |= {"code": code_digest(recorded(folder.manifest)), "version": folder.version}
            rows.append({**own, **final, **of_class})
    return pd.DataFrame(rows)


def split_of(folder: RunFolder) -> dict[str, Any]:
    """Return digests of a run's training and test images, and the share of own images that is carved off."""
    told = folder.manifest
    parts = {"train_part": told["train_sha256"][:8], "test_part": told["test_sha256"][:8]}
    return parts | {"test_frac": folder.config.test_frac}


def code_digest(files: Mapping[str, str]) -> str:
    """Return a short digest of the contents of the user's own files, by name; nothing where there are none."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()[:8] if files else ""


@dataclass(frozen=True)
class _Part:
    name: str
    head: str
    table: Any
    runs: dict[str, list[RunFolder]]
    tuning: Any
    unfinished: tuple[str, ...] = ()


def _compared(parts: Sequence[_Part], asked: Asked) -> list[Comparison]:
    every = list(dict.fromkeys(method for part in parts for method in part.table["method"]))
    base = baseline_of(every, asked.baseline)
    check_named(every, asked.named, base)
    comparisons = []
    for part in parts:
        here = list(dict.fromkeys(part.table["method"]))
        base = baseline_of(here, asked.baseline if asked.baseline in here else None)
        named = tuple(name for name in asked.named if name in here and name != base)
        notes = [*_meaning(part.table), *tuning_of(part.table, part.tuning)]
        if asked.baseline in (None, *here) and (named or not asked.named):
            found = contrasts(part.table, baseline=base, named=named, margin=asked.margin)
            notes += [*lines_of(found), *_unpaired(part.table, base, named)]
            if len(here) <= FEW + 1:  # of more methods they are in the report
                notes += helped_and_hurt(part.table, base)
        else:
            found = contrasts(part.table[:0], margin=asked.margin)
            without = asked.baseline not in (None, *here)
            why = f"No run of {asked.baseline}" if without else f"No run of {', '.join(asked.named)}"
            if not without and base in asked.named:
                why = f"{base} is the baseline here"
            notes.append(f"{why}: nothing is tested.")
        if part.unfinished:
            notes.append(f"Not finished, and left out: {'; '.join(part.unfinished)}.")
        notes += unfinished(part.table)
        comparisons.append(Comparison(part.name, part.head, part.table, found, notes, part.runs, asked))
    return comparisons


def _unpaired(table: Any, base: str, named: Sequence[str]) -> list[str]:
    """Say which runs have none of the same seed to be compared with: they are in no difference."""
    seeds = table.groupby("method", sort=False)["seed"].agg(set).to_dict()
    own, parts, lacking = seeds.pop(base), [], dict[int, list[str]]()
    for method in named or seeds:
        theirs = seeds[method]
        if more := theirs - own:
            parts.append(f"{method} {', '.join(map(str, sorted(more)))}")
        for seed in own - theirs:
            lacking.setdefault(seed, []).append(method)
    for seed, methods in sorted(lacking.items()):
        which = ", ".join(methods[:3]) + (f" and {len(methods) - 3} others" if len(methods) > 3 else "")
        parts.append(f"{base} {seed} (none of {which})")
    return [f"Runs without a pair of the same seed, in no difference: {'; '.join(parts)}."] if parts else []


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
    if table["seed"].nunique() > 1 and "vary" in table:
        notes.append(varied_of(table))
    if "code" in table:
        known = table.assign(code=table["code"].replace("", None))  # of runs without a record nothing is known
        codes = known.groupby("method", sort=False)["code"].nunique()
        if mixed := codes[codes > 1].index.tolist():
            notes.append(
                f"NOT ONE METHOD: between runs of {', '.join(mixed)} a file of your own changed (--import, "
                "a component's file, or images of --extra-train)."
            )
    if "precision" in table and len(kinds := table["precision"].fillna("unknown").unique()) > 1:
        notes.append(f"Runs of several precisions ({', '.join(kinds)}): a small difference may be of their arithmetic.")
    if "version" in table and len(kinds := table["version"].fillna("unknown").unique()) > 1:
        shown = ", ".join(kinds[:4]) + (f" and {len(kinds) - 4} others" if len(kinds) > 4 else "")
        notes.append(f"Runs of several versions of divaug ({shown}): a difference may be of its code.")
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


def varied_of(table: Any) -> str:
    """Return what differs between the runs of a method, of which their intervals are, and what does not."""
    parts = {name: table[name] for name in ("train_part", "test_part") if name in table and table[name].notna().all()}
    same = ""  # where rows do not say
    if "test_part" in parts and parts["test_part"].nunique() == 1:
        same = " All are tested on the same images: intervals tell nothing of other test images."
    if overlap_of(table):
        same = (
            " Each splits the same images anew, so runs share training images: tests and intervals allow for that "
            "(Nadeau and Bengio, 2003)."
        )
    several = table["seed"].nunique() > 1
    once = several and "train_part" in parts and parts["train_part"].groupby(table["method"]).nunique().max() == 1
    match ["init"] if once else table["vary"].unique().tolist() if "vary" in table else []:
        case ["cut"]:
            said = "Each seed is a cut of its own: other images and, where it is long-tailed, another class order."
        case ["images"]:
            said = "Each seed is a cut of its own: other training images in the same class order."
        case ["init"]:
            said = "All are of one cut: intervals are over initial weights and draws, and tell nothing of other cuts."
        case _:
            said = "What a seed varies is not known of all rows."
    return said + same

"""Do the five conclusions of Buda, Maki and Mazurowski (2018, arXiv:1710.05381) hold on small networks?

The same contrasts on every cell (a data set, a profile of class sizes, a ratio of the largest to the smallest), with
new cuts as the unit. What counts as holding stands in ``CLAIMS`` and ``verdict_of``, fixed before any result was seen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import ConfigError, DivaugError
from divaug.base.stats import holm, t_interval, t_p
from divaug.config.layers import configure, experiment_name, method_label
from divaug.config.schema import Component, Config
from divaug.config.tables import protocol_fingerprint
from divaug.data.load import load_data
from divaug.data.longtail import profile_counts
from divaug.report import results
from divaug.runs.folder import RunFolder
from divaug.runs.loop import run
from divaug.runs.new_heads import AS_TRAINED, new_heads
from divaug.study.runner import Task, run_tasks

PROFILES, FACTORS, LARGEST = ("step", "linear"), (10, 50), 1000
KEYS: dict[str, Any] = {
    "preset": "sprint", "epochs": 12, "model": {"name": "whitened_cnn", "widths": [16, 32, 64]}, "pixel": "none",
    "max_per_class": LARGEST, "eval_every": 10**6, "monitor_at": [1.0], "tracking": "off", "progress": "none",
    "threads": 1,
}  # fmt: skip
THRESHOLDED, SCORES = "+posthoc=logit_adjustment", {"auc": "test_roc_auc", "acc": "test_acc"}
AFTERWARDS = ("erm", "ros")  # arms that are judged with thresholds too
LEVEL = 0.05


@dataclass(frozen=True)
class Cell:
    """One data set, cut one way.

    Attributes:
        dataset, profile, factor: Of the cut.
        classes: Number of classes.
    """

    dataset: str
    profile: str
    factor: int
    classes: int = 10

    def __str__(self) -> str:
        return f"{self.dataset} {self.profile} {self.factor}"


@dataclass(frozen=True)
class Claim:
    """One conclusion of the paper.

    Attributes:
        words: The conclusion.
        contrasts: Arms of which the first should be better than the second, and the score: area under the ROC curves
            (auc), the paper's, or accuracy (acc). The test images of all classes are equally many.
        margin: Points by which the first may be worse: for a claim that nothing is lost.
    """

    words: str
    contrasts: tuple[tuple[str, str, str], ...]
    margin: float = 0.0


CLAIMS = (
    Claim("Imbalance is detrimental", (("balanced", "erm", "auc"),)),
    Claim(
        "Oversampling dominates",
        (("ros", "erm", "auc"), ("ros", "rus", "auc"), ("ros", "two_phase", "auc")),
    ),
    Claim(
        "Oversample until no imbalance is left; undersample only to some extent",
        (("ros", "ros_half", "auc"), ("rus_part", "rus", "auc")),
    ),
    Claim("Oversampling does not cause overfitting: nothing is lost", (("ros", "erm", "auc"),), margin=0.5),
    # With thresholds ros is shown and not judged: it has seen all classes alike, so there is no prior to divide by.
    Claim("Thresholding helps where accuracy counts", (("erm" + THRESHOLDED, "erm", "acc"),)),
)


def cells_of(datasets: Sequence[str], factors: Sequence[int] = FACTORS, classes: int = 10) -> list[Cell]:
    """Return every data set with every profile and ratio."""
    return [Cell(d, p, f, classes) for d in datasets for p in PROFILES for f in factors]


def arms_of(cell: Cell, seed: int, **keys: Any) -> dict[str, Config]:
    """Return what is trained on one cut: arm to configuration.

    ``ros_half`` raises small classes to half of the largest, ``rus_part`` leaves the largest at the root of the ratio
    times the smallest, ``balanced`` has as many images in all, equally many of each class.

    Args:
        cell: The cell.
        seed: Of training, and of the cut and the order of classes.
        keys: Over ``KEYS``.
    """
    keys = {**KEYS, **keys, "dataset": cell.dataset, "seed": seed}
    cut = {"profile": cell.profile, "imbalance_factor": float(cell.factor)}
    largest = keys["max_per_class"]
    counts = profile_counts(cell.profile, np.full(cell.classes, largest), float(cell.factor), np.arange(cell.classes))
    plain = {name: configure(method=name, **cut, **keys) for name in ("erm", "ros", "rus", "two_phase")}
    half = Component("oversample", {"at_least": largest // 2})
    part = Component("undersample", {"ratio": round(math.sqrt(cell.factor), 1)})
    each = [int(counts.sum()) // cell.classes] * cell.classes
    return plain | {
        "ros_half": replace(plain["ros"], sampler=half), "rus_part": replace(plain["rus"], sampler=part),
        "balanced": configure(method="erm", profile="custom", counts=each, **keys),
    }  # fmt: skip


def train_all(
    cells: Sequence[Cell],
    seeds: Sequence[int],
    rows: Path,
    *,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
    **keys: Any,
) -> None:
    """Train what has no row yet; each run gives a row, erm and ros a second one with thresholds.

    Args:
        cells: The cells.
        seeds: One cut each.
        rows: CSV of results.
        jobs: Runs at once.
        say: Takes lines for the user.
        keys: Over ``KEYS``.

    Raises:
        ConfigError: A data set has another number of classes.
        DataError: Data are missing.
        Interrupted: A signal came; the same command continues.
    """
    results.check_writable(rows)
    known, wanted, tasks, identities = results.read(rows), [], [], dict[str, str]()
    for cell in cells:
        if cell.dataset not in identities:
            data = load_data(arms_of(cell, seeds[0], **keys)["erm"])
            identities[cell.dataset] = data.identity
            if data.dataset.num_classes != cell.classes:
                raise ConfigError(f"{cell.dataset} has {data.dataset.num_classes} classes; it takes {cell.classes}")
    for seed in seeds:  # cuts outermost: what a stopped study has is balanced
        for cell in cells:
            for arm, config in arms_of(cell, seed, **keys).items():
                if not len(_rows_of(known, config, data=identities[cell.dataset])):
                    wanted.append(config)
                    do = partial(_train, config, arm in AFTERWARDS)
                    tasks.append(Task(f"{cell}: {arm}, seed {seed}", do, RunFolder.of(config).pace))

    def add(number: int, found: tuple[Path, dict[str, Any] | None]) -> None:
        path, thresholded = found
        config, folder = wanted[number], RunFolder(path)
        if thresholded is not None:
            key = results.key_of(config, folder.manifest["data"])
            results.append(rows, {**key, "method": key["method"] + THRESHOLDED, "epochs": config.epochs, **thresholded})
        results.add(rows, config, folder)

    run_tasks(tasks, jobs=jobs, say=say, finished=add)


def _train(config: Config, afterwards: bool) -> tuple[Path, dict[str, Any] | None]:
    """Train one run; return its folder, and the test accuracies with thresholds where they are wanted."""
    folder = run(config, RunFolder.of(config), load_data(config))
    if not afterwards:
        return folder.path, None
    heads = new_heads(folder, {THRESHOLDED: Component("logit_adjustment")}, rules=False)
    (head,) = [head for head in heads if head.label != AS_TRAINED]
    scores = {f"test_{key}": value for key, value in head.accuracies.items()}
    return folder.path, scores | {f"recall_{name}": value for name, value in head.recalls.items()}


def _rows_of(table: Any, config: Config, beside: str = "", **more: str) -> Any:
    """Return a run's rows in a table."""
    key = {
        "experiment": experiment_name(config), "protocol": protocol_fingerprint(config), "seed": config.seed,
        "method": method_label(config) + beside, **more,
    }  # fmt: skip
    return table[(table[list(key)] == list(key.values())).all(axis=1)]


def scores_of(table: Any, cells: Sequence[Cell], seeds: Sequence[int], **keys: Any) -> Any:
    """Return a DataFrame of what has been run: ``cell``, ``arm``, ``seed``, ``auc`` and ``acc`` in %, ``fitted``.

    ``fitted`` is the recall of the smallest third of the classes on their own training images, in %.

    Raises:
        DivaugError: A cell has rows of several data sets of one name.
    """
    import pandas as pd

    found = []
    for cell in cells:
        for seed in seeds:
            for arm, config in arms_of(cell, seed, **keys).items():
                for beside in ("", THRESHOLDED) if arm in AFTERWARDS else ("",):
                    mine = _rows_of(table, config, beside)
                    if mine["data"].nunique() > 1:
                        raise DivaugError(f"{cell} has rows of other images: data {', '.join(mine['data'])}; keep one")
                    for _, row in mine.iterrows():
                        numbers = {name: 100 * row.get(key, math.nan) for name, key in SCORES.items()}
                        fitted = 100 * row.get("train_clean_acc_tail", math.nan)
                        where = {"cell": str(cell), "arm": arm + beside, "seed": seed}
                        found.append({**where, **numbers, "fitted": fitted})
    return pd.DataFrame(found, columns=["cell", "arm", "seed", *SCORES, "fitted"])


def differences(scores: Any, ours: str, theirs: str, score: str) -> Any:
    """Return differences in points: cuts in rows, cells in columns.

    A cell that neither cut has is left out, then every cut that lacks one of the others.
    """
    wide = scores.pivot_table(index="seed", columns=["arm", "cell"], values=score)
    if not {ours, theirs} <= set(wide.columns.get_level_values("arm")):
        return wide.iloc[:0, :0]
    return (wide[ours] - wide[theirs]).dropna(axis=1, how="all").dropna()


def judge(scores: Any) -> tuple[Any, list[tuple[Claim, str]]]:
    """Return every contrast with its interval, and every claim with its verdict.

    The unit is a cut: its mean difference over all cells. P-values of t tests are corrected (Holm) over all contrasts;
    within a cell, over the cells.

    Returns:
        A DataFrame with ``claim`` (from 1), ``ours``, ``theirs``, ``score``, ``n``, ``difference``, ``low``, ``high``,
        ``p``, ``p_holm``, ``shows`` (1: as claimed, -1: the opposite, 0: cannot tell), ``cells`` (how many there are),
        ``cells_for`` and ``cells_against``; and the claims with what ``verdict_of`` says.
    """
    import pandas as pd

    rows = []
    for number, claim in enumerate(CLAIMS, start=1):
        for ours, theirs, score in claim.contrasts:
            found = differences(scores, ours, theirs, score)
            shifted = found + claim.margin
            means = shifted.mean(axis=1).tolist()
            low, high = t_interval(means)
            each = holm([t_p(shifted[cell].tolist()) for cell in shifted])
            signs = [np.sign(shifted[cell].mean()) * (p < LEVEL) for cell, p in zip(shifted, each, strict=True)]
            rows.append({
                "claim": number, "ours": ours, "theirs": theirs, "score": score, "n": len(means),
                "difference": float(np.mean(means)) - claim.margin if means else math.nan,
                "low": low - claim.margin, "high": high - claim.margin, "p": t_p(means), "p_holm": math.nan, "shows": 0,
                "cells": found.shape[1],
                "cells_for": sum(sign > 0 for sign in signs), "cells_against": sum(sign < 0 for sign in signs),
            })  # fmt: skip
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        above = row["difference"] + CLAIMS[row["claim"] - 1].margin > 0
        row |= {"p_holm": p, "shows": (1 if above else -1) if p < LEVEL else 0}
    table = pd.DataFrame(rows)
    return table, [(claim, verdict_of(table[table["claim"] == n])) for n, claim in enumerate(CLAIMS, start=1)]


def verdict_of(contrasts: Any) -> str:
    """Return whether a claim holds: "holds", "does not hold", "these runs cannot tell", or "holds, but not everywhere".

    Each of its contrasts must show it over all cells, and none the opposite. It does not hold everywhere where a single
    cell shows the opposite.
    """
    if (contrasts["shows"] < 0).any():
        return "does not hold"
    if (contrasts["shows"] == 0).any():
        return "these runs cannot tell"
    return "holds, but not everywhere" if (contrasts["cells_against"] > 0).any() else "holds"

"""The claims as numbers: each one's effect by seed, from the table of evidence.

An effect is one number a seed, paired within the seed wherever two networks are compared: same class order, same
pictures, same initial weights. Every claim has a row as it is usually computed ("raw") and one matched for size and
scale ("matched"), so that it can be seen where that changes the answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the verdict table.

    Attributes:
        claim: C0, C1, C2, C2b or C4.
        statement: What is asked, in words.
        measure: Column of the evidence, or what is made of it.
        kind: "raw" or "matched".
        method: Method of the networks.
        direction: +1 or -1, the sign that the claim predicts; 0 where it says only that there is a difference.
        primary: Whether the claim is judged by this row, and Holm's correction counts it.
        values: The effect by seed.
        null: What the same statistic is by seed where nothing differs but the seed; None where 0 is the null.
        scale: What an effect is a share of, for reading it; NaN where it is a share already.
    """

    claim: str
    statement: str
    measure: str
    kind: str
    method: str
    direction: int
    primary: bool
    values: np.ndarray
    null: np.ndarray | None = None
    scale: float = float("nan")


class Evidence:
    """The table of evidence with the look-ups that claims need."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.seeds = sorted(table["seed"].unique())

    def has(self, arm: str) -> bool:
        """Tell whether there are runs of an arm."""
        return bool((self.table["arm"] == arm).any())

    def per_seed(self, arm: str, measure: str, terciles: Sequence[str] = ("head", "mid", "tail")) -> np.ndarray:
        """Return the mean over classes of a measure, one value a seed; NaN where there is none."""
        rows = self.table[(self.table["arm"] == arm) & self.table["tercile"].isin(terciles)]
        if measure not in rows:
            return np.full(len(self.seeds), np.nan)
        return rows.groupby("seed")[measure].mean().reindex(self.seeds).to_numpy(dtype=float)

    def difference(self, arm: str, other: str, measure: str, tercile: str) -> np.ndarray:
        """Return the mean of a measure's difference between two arms over the classes that both have, by seed."""
        if measure not in self.table or not self.has(other):
            return np.full(len(self.seeds), np.nan)
        keys = ["seed", "class"]
        ours, theirs = (
            self.table[(self.table["arm"] == name) & (self.table["tercile"] == tercile)].set_index(keys)[measure]
            for name in (arm, other)
        )
        return (ours - theirs).dropna().groupby("seed").mean().reindex(self.seeds).to_numpy(dtype=float)

    def over_classes(self, arm: str, statistic: Callable[[Any], float]) -> np.ndarray:
        """Return a statistic of each seed's classes."""
        rows = self.table[self.table["arm"] == arm]
        groups = dict(iter(rows.groupby("seed")))
        return np.array([statistic(groups[s]) if s in groups else np.nan for s in self.seeds], dtype=float)


def spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> float:
    """Return the rank correlation over classes, with ``given`` a partial one; NaN where a ranking is constant."""
    from scipy.stats import rankdata

    columns = [x, y] if given is None else [x, y, given]
    known = ~np.isnan(np.column_stack(columns)).any(1)
    if known.sum() < len(columns) + 2:
        return float("nan")
    ranks = [rankdata(column[known]) for column in columns]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    if given is None:
        return float(np.corrcoef(ranks)[0, 1])
    design = np.column_stack([np.ones(known.sum()), ranks[2]])
    residuals = [rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks[:2]]
    if any(np.allclose(r, 0) for r in residuals):
        return float("nan")
    return float(np.corrcoef(residuals)[0, 1])


def rows_of(table: Any, methods: Sequence[str]) -> list[Row]:
    """Return all rows that the evidence allows; six of the first method's are primary.

    Not more: the smallest p of eight seeds, 2 / 2^8, stays below 0.05 under Holm's correction for six, not for seven.
    """
    found = Evidence(table)
    rows: list[Row] = []
    for method in methods:
        first = method == methods[0]
        for make in (_c0, _c1, _c2, _c4):
            rows += make(found, method, first)
    rows += _c2b(found, methods[0])
    return [row for row in rows if np.isfinite(row.values).any()]


def _c0(e: Evidence, method: str, first: bool) -> list[Row]:
    arm = f"{method}_exp"
    top, tail = e.per_seed(arm, "lost_top_10", ["tail"]), ["tail"]
    return [
        Row(
            "C0",
            "recall that rare classes lose with their top-10 CE, over random features",
            "lost_top - lost_random",
            "raw",
            method,
            1,
            False,
            top - e.per_seed(arm, "lost_random_10", tail),
        ),
        Row(
            "C0",
            "the same over features as large in FE",
            "lost_top - lost_matched",
            "matched",
            method,
            1,
            first,
            top - e.per_seed(arm, "lost_matched_10", tail),
        ),
        Row(
            "C0",
            "rare classes lose more than frequent ones, over features as large",
            "tail - head",
            "matched",
            method,
            1,
            False,
            top
            - e.per_seed(arm, "lost_matched_10", tail)
            - e.per_seed(arm, "lost_top_10", ["head"])
            + e.per_seed(arm, "lost_matched_10", ["head"]),
        ),
    ]


def _c1(e: Evidence, method: str, first: bool) -> list[Row]:
    arm = f"{method}_exp"
    dimensions = float(e.table["dimensions"].iloc[0]) if len(e.table) else float("nan")
    return [
        Row(
            "C1",
            "a class uses fewer than half of all features (effective number)",
            "effective_raw - D / 2",
            "raw",
            method,
            -1,
            False,
            e.per_seed(arm, "effective_raw") - dimensions / 2,
            scale=dimensions,
        ),
        Row(
            "C1",
            "a class uses fewer features than in an untrained network, at equal n",
            "effective_matched",
            "matched",
            method,
            -1,
            first,
            e.per_seed(arm, "effective_matched") - e.per_seed(arm, "untrained_effective_matched"),
            scale=dimensions,
        ),
    ]


def _c2(e: Evidence, method: str, first: bool) -> list[Row]:
    rows = []
    pairs = [
        ("number of top-K CE", "raw", "number_raw", False),
        ("number of top-K CE", "matched", "rarefied_5", False),
        ("number of top-K CE", "matched", "effective_matched", True),
        ("magnitude of the largest CE", "raw", "magnitude_raw", False),
        ("magnitude of the largest CE", "matched", "magnitude_matched", True),
        ("share of the top tenth of features", "matched", "top_share_matched", False),
    ]
    for control in ("balanced_small", "balanced"):
        arm, other, again = f"{method}_exp", f"{method}_{control}", f"{method}_exp_other-seed"
        if not e.has(other):
            continue
        for what, kind, measure, primary in pairs:
            effect = e.difference(arm, other, measure, "tail")
            null = e.difference(arm, again, measure, "tail") if e.has(again) else None
            reference = float(np.nanmean(e.per_seed(other, measure, ["tail"])))
            asked = f"{what} of rare classes: imbalanced against {control}"
            judged = first and primary and control == "balanced_small"
            rows.append(Row("C2", asked, measure, kind, method, 0, judged, effect, null, reference))
    return rows


def _c2b(e: Evidence, method: str) -> list[Row]:
    rows = []
    shares = sorted(e.table.loc[e.table["share"] > 0, "share"].unique())
    if not shares:
        return rows

    def by_share(where: str, measure: str) -> np.ndarray:
        tercile = ["tail"] if where == "rare" else ["head"]
        plain = e.per_seed(f"{method}_exp", measure, tercile)
        planted = [e.per_seed(f"{method}_exp_patch-{where}-{round(100 * p)}", measure, tercile) for p in shares]
        return np.column_stack([plain, *planted])

    p = np.array([0.0, *shares])
    lost = {}
    for where in ("rare", "frequent"):
        entered = by_share(where, "patch_in_top")
        slope = ((entered - entered.mean(1, keepdims=True)) * (p - p.mean())).sum(1) / ((p - p.mean()) ** 2).sum()
        recall = by_share(where, "patch_recall_clean")
        lost[where] = recall[:, 0] - recall[:, -1]
        rows.append(
            Row(
                "C2b",
                f"a planted patch's features enter a {where} class's top-K as its share grows",
                "slope of patch_in_top",
                "matched",
                method,
                1,
                where == "rare",
                slope,
            )
        )
        rows.append(
            Row(
                "C2b",
                f"a {where} class loses recall on clean pictures with the patch in {100 * p[-1]:.0f} %",
                "recall lost",
                "matched",
                method,
                1,
                False,
                lost[where],
            )
        )
        drawn = by_share(where, "patch_draws_others")
        rows.append(
            Row(
                "C2b",
                f"the patch draws other classes' pictures to the {where} class",
                "share drawn",
                "matched",
                method,
                1,
                False,
                drawn[:, -1],
            )
        )
    rows.append(
        Row(
            "C2b",
            "a rare class loses more by the patch than a frequent one",
            "difference",
            "matched",
            method,
            1,
            False,
            lost["rare"] - lost["frequent"],
        )
    )
    return rows


def _c4(e: Evidence, method: str, first: bool) -> list[Row]:
    def correlation(arm: str, measure: str, partial: bool = False) -> np.ndarray:
        def one(classes: Any) -> float:
            drop = (classes["train_recall"] - classes["test_recall"]).to_numpy(dtype=float)
            given = np.log(classes["n"].to_numpy(dtype=float)) if partial else None
            return spearman(classes[measure].to_numpy(dtype=float), drop, given)

        return e.over_classes(arm, one)

    arm, small = f"{method}_exp", f"{method}_balanced_small"
    asked = "across classes, {} goes with the recall lost from train to test"
    return [
        Row("C4", asked.format("the raw range gap"), "gap_raw", "raw", method, 1, False, correlation(arm, "gap_raw")),
        Row(
            "C4",
            asked.format("the loss of CE magnitude"),
            "ce_loss",
            "raw",
            method,
            1,
            False,
            correlation(arm, "ce_loss"),
        ),
        Row(
            "C4",
            asked.format("the loss of CE magnitude, given class size,"),
            "ce_loss | log n",
            "matched",
            method,
            1,
            False,
            correlation(arm, "ce_loss", True),
        ),
        Row(
            "C4",
            asked.format("the loss of FE magnitude, given class size,"),
            "fe_loss | log n",
            "matched",
            method,
            1,
            first,
            correlation(arm, "fe_loss", True),
        ),
        Row(
            "C4",
            asked.format("the change of the CE's shape, given class size,"),
            "shape_distance | log n",
            "matched",
            method,
            1,
            False,
            correlation(arm, "shape_distance", True),
        ),
        Row(
            "C4",
            asked.format("the size-matched gap above its null, given class size,"),
            "gap_excess | log n",
            "matched",
            method,
            1,
            False,
            correlation(arm, "gap_excess", True),
        ),
        Row(
            "C4",
            asked.format("the loss of FE magnitude, in classes of one size,"),
            "fe_loss, balanced_small",
            "matched",
            method,
            1,
            False,
            correlation(small, "fe_loss"),
        ),
        Row(
            "C4",
            asked.format("the loss of logit margin (trivial baseline)"),
            "margin_loss",
            "raw",
            method,
            1,
            False,
            correlation(arm, "margin_loss"),
        ),
    ]

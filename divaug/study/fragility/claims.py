"""The claims as numbers: each one's effect by seed, from the table of evidence.

An effect is one number per seed. Where two networks are compared, they are paired within the seed: same class order,
same images, same initial weights. Every claim has a row as it is usually computed ("raw") and one matched for size and
scale ("matched"), which shows where matching changes the answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from divaug.base.stats import sign_flip_p


@dataclass(frozen=True)
class Row:
    """One line of the verdict table.

    Attributes:
        claim: C0, C1, C2, C2b or C4.
        statement: The question in words.
        measure: Column of the evidence, or what is computed from it.
        kind: "raw" or "matched".
        method: Method of the networks.
        direction: +1 or -1, the sign that the claim predicts; 0 if it predicts only that there is a difference.
        values: The effect by seed.
        primary: Whether the claim is judged by this row, and Holm's correction counts it.
        null: The same statistic by seed when nothing but the seed differs; None if 0 is the null.
        scale: What an effect is a share of, for reading it; NaN if it is a share already.
        pair: Rows of one claim with the same word here ask the same question, raw and matched; "" stands alone.
        caveat: Why the row says less than its verdict: its classes are not learned, it restates a trivial baseline, or
            it cannot fail; "" if none of these applies.
    """

    claim: str
    statement: str
    measure: str
    kind: str
    method: str
    direction: int
    values: np.ndarray
    primary: bool = False
    null: np.ndarray | None = None
    scale: float = float("nan")
    pair: str = ""
    caveat: str = ""


LEARNED, RECOGNISED = 0.9, 0.2  # training and test recall below which a class's lost recall says nothing


class Evidence:
    """The table of evidence with the look-ups that claims need."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.seeds = sorted(table["seed"].unique())

    def has(self, arm: str) -> bool:
        """Return whether there are runs of an arm."""
        return bool((self.table["arm"] == arm).any())

    def per_seed(self, arm: str, measure: str, terciles: Sequence[str] = ("head", "mid", "tail")) -> np.ndarray:
        """Return the mean over classes of a measure, one value per seed; NaN where there is none."""
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

    def floor(self, arm: str, terciles: Sequence[str]) -> str:
        """Return a caveat if the classes of an arm are not learned or not recognised, else ""."""
        means = [_mean(self.per_seed(arm, f"{part}_recall", terciles)) for part in ("train", "test")]
        if not (means[0] < LEARNED or means[1] < RECOGNISED):  # nor if nothing is known
            return ""
        return f"floor: training recall {means[0]:.2f}, test recall {means[1]:.2f} in {' and '.join(terciles)} classes"

    def over_classes(self, arm: str, statistic: Callable[[Any], float]) -> np.ndarray:
        """Return a statistic of each seed's classes."""
        rows = self.table[self.table["arm"] == arm]
        groups = dict(iter(rows.groupby("seed")))
        return np.array([statistic(groups[s]) if s in groups else np.nan for s in self.seeds], dtype=float)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> float:
    """Return the rank correlation over classes, a partial one with ``given``; NaN if a ranking is constant."""
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

    No more than six: the smallest p of eight seeds, 2 / 2^8, stays below 0.05 under Holm's correction for six only.
    """
    found = Evidence(table)
    rows: list[Row] = []
    for method in methods:
        first = method == methods[0]
        for make in (_c0, _c1, _c2, _c2b, _c4):
            rows += make(found, method, first)
    return [row for row in rows if np.isfinite(row.values).any()]


def _c0(e: Evidence, method: str, first: bool) -> list[Row]:
    def lost(kind: str, tercile: str) -> np.ndarray:
        return e.per_seed(f"{method}_exp", f"lost_{kind}_10", [tercile])

    floor = e.floor(f"{method}_exp", ["tail"])
    make = partial(Row, "C0", method=method, direction=1, caveat=floor)
    over_random = lost("top", "tail") - lost("random", "tail")
    over_matched = lost("top", "tail") - lost("matched", "tail")
    asked = "recall that rare classes lose with their top-10 CE, over "
    head = lost("top", "head") - lost("matched", "head")
    return [
        make(asked + "random features", "lost_top - lost_random", "raw", values=over_random, pair="top"),
        make(asked + "features as large in FE", "lost_top - lost_matched", "matched", values=over_matched,
             primary=first, pair="top"),
        make("rare classes lose more than frequent ones, over features as large", "tail - head", "matched",
             values=over_matched - head),
    ]  # fmt: skip


def _c1(e: Evidence, method: str, first: bool) -> list[Row]:
    arm, dimensions = f"{method}_exp", float(e.table["dimensions"].iloc[0])
    make = partial(Row, "C1", method=method, direction=-1, pair="number", scale=dimensions)
    fewer = e.per_seed(arm, "effective_matched") - e.per_seed(arm, "untrained_effective_matched")
    bare = _mean(e.per_seed(arm, "untrained_effective_raw"))
    trivial = f"cannot fail: {bare:.1f} of {dimensions:.0f} in untrained networks" if bare < dimensions / 2 else ""
    return [
        make("a class uses fewer than half of all features (effective number)", "effective_raw - D / 2", "raw",
             values=e.per_seed(arm, "effective_raw") - dimensions / 2, caveat=trivial),
        make("a class uses fewer features than in an untrained network, at equal n", "effective_matched", "matched",
             values=fewer, primary=first),
    ]  # fmt: skip


_NUMBER, _LARGEST = "number of top-K CE", "magnitude of the largest CE"
_C2 = (
    (_NUMBER, "raw", "number_raw", False),
    (_NUMBER, "matched", "rarefied_5", False),
    (_NUMBER, "matched", "effective_matched", True),
    (_LARGEST, "raw", "magnitude_raw", False),
    (_LARGEST, "matched", "magnitude_matched", True),
    ("share of the top tenth of features", "raw", "top_share_raw", False),
    ("share of the top tenth of features", "matched", "top_share_matched", False),
)


def _c2(e: Evidence, method: str, first: bool) -> list[Row]:
    rows = []
    for control in ("balanced_small", "balanced"):
        arm, other, again = f"{method}_exp", f"{method}_{control}", f"{method}_exp_other-seed"
        if not e.has(other):
            continue
        floor = e.floor(arm, ["tail"]) or e.floor(other, ["tail"])
        for what, kind, measure, primary in _C2:
            asked = f"{what} of rare classes: imbalanced against {control}"
            effect = e.difference(arm, other, measure, "tail")
            null = e.difference(arm, again, measure, "tail") if e.has(again) else None
            reference = float(np.nanmean(e.per_seed(other, measure, ["tail"])))
            judged, pair = first and primary and control == "balanced_small", f"{what}, {control}"
            name = f"{measure}, {control}"
            rows.append(Row("C2", asked, name, kind, method, 0, effect, judged, null, reference, pair, floor))
    return rows


def _c2b(e: Evidence, method: str, first: bool) -> list[Row]:
    shares = sorted(e.table.loc[(e.table["share"] > 0) & (e.table["method"] == method), "share"].unique())
    if not shares:
        return []
    p, spread = np.array([0.0, *shares]), np.array([0.0, *shares]) - np.mean([0.0, *shares])

    def by_share(where: str, measure: str) -> np.ndarray:
        tercile = ["tail"] if where == "rare" else ["head"]
        arms = [f"{method}_exp", *(f"{method}_exp_patch-{where}-{round(100 * share)}" for share in shares)]
        return np.column_stack([e.per_seed(arm, measure, tercile) for arm in arms])

    rows, lost, floors = [], {}, {}
    for where, tercile in (("rare", "tail"), ("frequent", "head")):
        floors[where] = e.floor(f"{method}_exp", [tercile])
        make = partial(Row, "C2b", kind="matched", method=method, direction=1, caveat=floors[where])
        slope = by_share(where, "patch_in_top") @ spread / (spread**2).sum()
        recall, drawn = by_share(where, "patch_recall_clean"), by_share(where, "patch_draws_others")
        lost[where] = recall[:, 0] - recall[:, -1]
        rows += [
            make(f"a planted patch's features enter a {where} class's top-K as its share grows",
                 f"slope of patch_in_top, {where}", values=slope, primary=first and where == "rare"),
            make(f"a {where} class loses recall on clean images with the patch in {100 * p[-1]:.0f} % of its own",
                 f"recall lost, {where}", values=lost[where]),
            make(f"the patch draws other classes' images to the {where} class", f"share drawn, {where}",
                 values=drawn[:, -1]),
        ]  # fmt: skip
    more = "a rare class loses more by the patch than a frequent one"
    difference, floor = lost["rare"] - lost["frequent"], floors["rare"] or floors["frequent"]
    made = Row("C2b", more, "recall lost, rare - frequent", "matched", method, 1, difference, caveat=floor)
    return [*rows, made]


_C4 = (
    ("the raw range gap", "gap_raw", False, "exp", "gap"),
    ("the size-matched gap above its null, given class size,", "gap_excess", True, "exp", "gap"),
    ("the loss of CE magnitude", "ce_loss", False, "exp", "ce"),
    ("the loss of CE magnitude, given class size,", "ce_loss", True, "exp", "ce"),
    ("the loss of FE magnitude", "fe_loss", False, "exp", "fe"),
    ("the loss of FE magnitude, given class size,", "fe_loss", True, "exp", "fe"),
    ("the loss of FE magnitude, in classes of one size,", "fe_loss", False, "balanced_small", "fe"),
    ("the change of the CE's shape", "shape_distance", False, "exp", "shape"),
    ("the change of the CE's shape, given class size,", "shape_distance", True, "exp", "shape"),
    ("the loss of logit margin (trivial baseline)", "margin_loss", False, "exp", ""),
)


def _c4(e: Evidence, method: str, first: bool) -> list[Row]:
    rows = []
    for what, measure, given_size, cut, pair in _C4:

        def one(classes: Any, measure: str = measure, given_size: bool = given_size) -> float:
            drop = (classes["train_recall"] - classes["test_recall"]).to_numpy(dtype=float)
            given = np.log(classes["n"].to_numpy(dtype=float)) if given_size else None
            return spearman(classes[measure].to_numpy(dtype=float), drop, given)

        name = measure + (" | log n" if given_size else "") + (f", {cut}" if cut != "exp" else "")
        matched = given_size or cut != "exp"
        asked = f"across classes, {what} goes with the recall lost from train to test"
        values = e.over_classes(f"{method}_{cut}", one)
        restates = "" if measure == "margin_loss" else _beyond_margin(e, f"{method}_{cut}", measure)
        judged = first and name == "fe_loss | log n"
        rows.append(Row("C4", asked, name, "matched" if matched else "raw", method, 1, values, judged, pair=pair,
                        caveat=restates))  # fmt: skip
    return rows


def _beyond_margin(e: Evidence, arm: str, measure: str) -> str:
    """Return what a measure adds to the loss of logit margin, a trivial baseline: nothing, or something besides it."""

    def partial_rho(classes: Any) -> float:
        drop = (classes["train_recall"] - classes["test_recall"]).to_numpy(dtype=float)
        given = classes["margin_loss"].to_numpy(dtype=float)
        return spearman(classes[measure].to_numpy(dtype=float), drop, given)

    values = e.over_classes(arm, partial_rho)
    p = sign_flip_p(values.tolist())
    if np.isnan(p):
        return ""
    word = "beside" if p < 0.05 and _mean(values) > 0 else "restates"
    return f"{word} the logit margin: given it, rho {_mean(values):+.2f} (p {p:.2f})"

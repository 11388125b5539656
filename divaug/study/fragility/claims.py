"""The claims as numbers: each one's effect by seed, from the table of evidence.

An effect is one number per seed. Where two networks are compared, they are paired within the seed: same class order,
same images, same initial weights. Every claim has a row as it is usually computed ("raw") and one matched for size and
scale ("matched"), which shows where matching changes the answer.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np


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
        floor: Why the effect cannot be measured: classes that are judged are not learned, or hardly recognised; "" if
            it can.
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
    floor: str = ""


LEARNED, RECOGNISED = 0.9, 0.2  # training and test recall below which a class's lost recall says nothing
_LOST = ("top", "matched", "random")


class Evidence:
    """The table of evidence with the look-ups that claims need.

    Losses of recall become shares of the class's own recall: a class with little recall has little to lose. A control
    that gains recall has lost nothing, so that its gain is not counted as an effect.
    """

    def __init__(self, table: Any) -> None:
        own = table["test_recall"].where(table["test_recall"] > 0)
        lost = [column for column in table if re.fullmatch(rf"lost_({'|'.join(_LOST)})_\d+", str(column))]
        self.table = table.assign(**{f"share_{column}": table[column].clip(lower=0) / own for column in lost})
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

    def lowest(self, arm: str, measure: str) -> np.ndarray:
        """Return the smallest value of any class, by seed."""
        rows = self.table[self.table["arm"] == arm]
        if measure not in rows:
            return np.full(len(self.seeds), np.nan)
        return rows.groupby("seed")[measure].min().reindex(self.seeds).to_numpy(dtype=float)

    def floor(self, arm: str, terciles: Sequence[str] = ("head", "mid", "tail")) -> str:
        """Return why an arm's classes cannot be judged, "" if they can: in every seed they are learned and recognised.

        A seed is not left out, because those that remain would be chosen by what is judged.
        """
        for part, least in (("train", LEARNED), ("test", RECOGNISED)):
            recall = self.per_seed(arm, f"{part}_recall", terciles).round(9)  # a mean of 0.9s is 0.9
            if (recall < least).any():
                said = "all" if len(terciles) == 3 else " and ".join(terciles)
                name = "training" if part == "train" else part
                return (
                    f"{name} recall of {said} classes down to {np.nanmin(recall):.2f} ({arm}, below {least} in "
                    f"{(recall < least).sum()} of {len(recall)} seeds)"
                )
        return ""

    def over_classes(self, arm: str, statistic: Callable[[Any], float]) -> np.ndarray:
        """Return a statistic of each seed's classes."""
        rows = self.table[self.table["arm"] == arm]
        groups = dict(iter(rows.groupby("seed")))
        return np.array([statistic(groups[s]) if s in groups else np.nan for s in self.seeds], dtype=float)


def mean_of(values: np.ndarray) -> float:
    """Return the mean of the known values; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def spearman(x: np.ndarray, y: np.ndarray, given: Sequence[np.ndarray] = ()) -> float:
    """Return the rank correlation over classes, a partial one with ``given``; NaN if a ranking is constant."""
    from scipy.stats import rankdata

    columns = [x, y, *given]
    known = ~np.isnan(np.column_stack(columns)).any(1)
    if known.sum() < len(columns) + 2:
        return float("nan")
    ranks = [rankdata(column[known]) for column in columns]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    design = np.column_stack([np.ones(known.sum()), *ranks[2:]])
    residuals = [rank - design @ np.linalg.lstsq(design, rank, rcond=None)[0] for rank in ranks[:2]]
    if any(np.allclose(r, 0) for r in residuals):
        return float("nan")
    return float(np.corrcoef(residuals)[0, 1])


def rows_of(table: Any, methods: Sequence[str]) -> list[Row]:
    """Return all rows that the evidence allows; six of the first method's are primary."""
    found = Evidence(table)
    rows: list[Row] = []
    for method in methods:
        first = method == methods[0]
        for make in (_c0, _c1, _c2, _c2b, _c4):
            rows += make(found, method, first)
    return [row for row in rows if np.isfinite(row.values).any() or row.floor]  # what cannot be measured is told


def _c0(e: Evidence, method: str, first: bool) -> list[Row]:
    arm = f"{method}_exp"

    def beyond(control: str, tercile: str) -> np.ndarray:
        top, other = (e.per_seed(arm, f"share_lost_{kind}_10", [tercile]) for kind in ("top", control))
        return top - other

    make = partial(Row, "C0", method=method, direction=1)
    asked = "share of their recall that rare classes lose without their top-10 CE, beyond what they lose without "
    return [
        make(asked + "random features", "top - random", "raw", values=beyond("random", "tail"), pair="top",
             floor=e.floor(arm, ["tail"])),
        make(asked + "features as large in FE", "top - matched", "matched", values=beyond("matched", "tail"),
             primary=first, pair="top", floor=e.floor(arm, ["tail"])),
        make("rare classes lose a larger share than frequent ones, beyond features as large", "tail - head", "matched",
             values=beyond("matched", "tail") - beyond("matched", "head"), floor=e.floor(arm, ["head", "tail"])),
    ]  # fmt: skip


def _c1(e: Evidence, method: str, first: bool) -> list[Row]:
    arm = f"{method}_exp"
    make = partial(Row, "C1", method=method, direction=-1, pair="number", floor=e.floor(arm))
    asked = "a class uses fewer features than any class of an untrained network (effective number)"
    rows = []
    for kind, matched in (("raw", ""), ("matched", ", at equal n")):
        measure = f"effective_{kind}"
        bound = e.lowest(arm, f"untrained_{measure}")
        values, judged = e.per_seed(arm, measure) - bound, first and kind == "matched"
        rows.append(make(asked + matched, measure, kind, values=values, primary=judged, scale=mean_of(bound)))
    return rows


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
        make = partial(Row, "C2b", kind="matched", method=method, direction=1, floor=floors[where])
        slope = by_share(where, "patch_in_top") @ spread / (spread**2).sum()
        recall, drawn = by_share(where, "patch_recall_clean"), by_share(where, "patch_draws_others")
        with np.errstate(divide="ignore", invalid="ignore"):
            lost[where] = np.where(recall[:, 0] > 0, 1 - recall[:, -1] / recall[:, 0], np.nan)
        rows += [
            make(f"a planted patch's features enter a {where} class's top-K as its share grows",
                 f"slope of patch_in_top, {where}", values=slope, primary=first and where == "rare"),
            make(f"share of its recall on clean images that a {where} class loses, with the patch in "
                 f"{100 * p[-1]:.0f} % of its own", f"recall lost, {where}", values=lost[where]),
            make(f"the patch draws other classes' images to the {where} class", f"share drawn, {where}",
                 values=drawn[:, -1]),
        ]  # fmt: skip
    more = "a rare class loses a larger share of its recall by the patch than a frequent one"
    difference, floor = lost["rare"] - lost["frequent"], floors["rare"] or floors["frequent"]
    made = Row("C2b", more, "recall lost, rare - frequent", "matched", method, 1, difference, floor=floor)
    return [*rows, made]


_C4 = (
    ("a wider range gap", "gap_raw", "gap"),
    ("a wider size-matched gap", "gap_excess", "gap"),
    ("a larger loss of CE magnitude", "ce_loss", "ce"),
    ("a larger loss of FE magnitude", "fe_loss", "fe"),
    ("a larger change of the CE's shape", "shape_distance", "shape"),
    ("a larger loss of logit margin (the trivial baseline)", "margin_loss", "margin"),
)


def _c4(e: Evidence, method: str, first: bool) -> list[Row]:
    """Return the correlations with the recall lost: as they are, given class size, and beyond the trivial baseline."""
    arm, rows = f"{method}_exp", []
    floor = e.floor(arm)
    for what, measure, pair in _C4:
        for given, words in (
            ((), ""),
            (("log n",), ", among classes of one size"),
            (("log n", "margin"), ", among classes of one size and one loss of margin"),
        ):
            if measure == "margin_loss" and "margin" in given:
                continue

            def one(classes: Any, measure: str = measure, given: Sequence[str] = given) -> float:
                column = {name: classes[name].to_numpy(dtype=float) for name in (measure, "margin_loss", "n")}
                known = {"log n": np.log(column["n"]), "margin": column["margin_loss"]}
                drop = (classes["train_recall"] - classes["test_recall"]).to_numpy(dtype=float)
                return spearman(column[measure], drop, [known[name] for name in given])

            name = " | ".join([measure, ", ".join(given)]) if given else measure
            judged = first and measure == "fe_loss" and len(given) == 2
            asked = f"classes with {what} lose more recall from training to test images{words}"
            kind = "matched" if given else "raw"
            paired = "" if given == ("log n",) and measure != "margin_loss" else pair
            rows.append(Row("C4", asked, name, kind, method, 1, e.over_classes(arm, one), judged, pair=paired,
                            floor=floor))  # fmt: skip
    return rows

"""Intervals over cuts and test images at once: another test set would have given other numbers too."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from divaug.base.errors import DataError
from divaug.study.exchange.analysis import FACTORIAL
from divaug.study.exchange.cut import manipulated
from divaug.study.exchange.plan import Design
from divaug.study.exchange.rows import unpacked

RESAMPLES = 2000


def crossed_interval(
    correct: Bool[np.ndarray, "U 4 M"],
    labels: Int[np.ndarray, "M"],
    confidence: float,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return a percentile interval of phi over resampled units and, within classes, resampled test images.

    Args:
        correct: Whether each test image was recognised, by unit and arm (A, B, C, D).
        labels: Class of every test image.
        confidence: Coverage; with few units it is less, as of every percentile bootstrap.
        rng: Draws the resamples.
        resamples: Their number.
    """
    units, _, images = correct.shape
    classes, which = np.unique(labels, return_inverse=True)
    members = [np.flatnonzero(which == c) for c in range(len(classes))]
    flat = correct.reshape(units * len(FACTORIAL), images).astype(np.float32)
    ratios = np.empty(resamples)
    for i in range(resamples):
        weights = np.zeros(images, dtype=np.float32)
        for rows in members:
            times = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
            weights[rows] = times / len(rows) / len(classes)
        a, b, c, d = (flat @ weights).reshape(units, len(FACTORIAL))[rng.integers(0, units, units)].mean(0)
        ratios[i] = ((b - a) + (d - c)) / 2 / (d - a)
    low, high = np.quantile(ratios, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def recognised(
    design: Design, prereg: str, table: Any, labels: Int[np.ndarray, "M"], num_classes: int
) -> Bool[np.ndarray, "U 4 M"]:
    """Return which test images each arm recognised in every complete pair of complementary cuts.

    Args:
        design: A long-tailed design.
        prereg: Hash of its plan.
        table: ``correct.csv`` of its data set.
        labels: Class of every image of the outcome's part.
        num_classes: C.

    Raises:
        DataError: A row is of another number of images than the labels say.
    """
    rows = table[
        (table["prereg"] == prereg) & (table["dataset"] == design.dataset) & (table["design"] == design.name)
        & (table["variant"] == design.variant)
    ]  # fmt: skip
    found = {(row.arm, int(row.cut)): row for row in rows.itertuples()}
    units = []
    for cut in design.cuts[::2]:
        if all((arm, one) in found for arm in FACTORIAL for one in (cut, cut + 1)):
            unit = np.zeros((len(FACTORIAL), len(labels)), dtype=bool)
            for one in (cut, cut + 1):
                own = np.isin(labels, manipulated(num_classes, design, one))
                for i, arm in enumerate(FACTORIAL):
                    row = found[arm, one]
                    if int(row.images) != own.sum():
                        raise DataError(f"correct.csv: arm {arm}, cut {one} has {row.images} images, not {own.sum()}")
                    unit[i, own] = unpacked(row.correct, int(row.images))
            units.append(unit)
    return np.array(units, dtype=bool).reshape(len(units), len(FACTORIAL), len(labels))

"""From rows to effects and words: fixed before the first run, and what the power table simulates.

The unit is the pair of complementary cuts where half of the classes are manipulated, so that every unit holds all
classes; it is the cut where all of them are. phi is a ratio of means over units, with Fieller's interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np
from jaxtyping import Float

from divaug.base.stats import t_interval, t_quantile
from divaug.study.exchange.plan import Words

FACTORIAL = ("A", "B", "C", "D")
NOT_MEASURABLE, UNDECIDED = "not measurable", "not decided"


@dataclass(frozen=True)
class Ratio:
    """A ratio of means with Fieller's interval, which is infinite where the denominator may be 0."""

    value: float
    low: float
    high: float


def fieller(numerator: Float[np.ndarray, "n"], denominator: Float[np.ndarray, "n"], confidence: float) -> Ratio:
    """Return the ratio of two means of paired values with Fieller's interval.

    The interval holds every ratio r for which the mean of numerator - r x denominator does not differ from 0 at the
    level. It is bounded exactly if the mean of the denominator differs from 0 at the same, two-sided, level.

    Args:
        numerator: One value per unit, n >= 2.
        denominator: As many, in the same order.
        confidence: Coverage, where the values are normal.

    Reference:
        Fieller, Some Problems in Interval Estimation, Journal of the Royal Statistical Society B 16, 1954.

    Example:
        >>> import numpy as np
        >>> from divaug.study.exchange.analysis import fieller
        >>> fieller(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]), 0.95).value
        0.5
    """
    n = len(numerator)
    if n < 2:
        return Ratio(float("nan"), -inf, inf)
    y, x = float(numerator.mean()), float(denominator.mean())
    (yy, xy), (_, xx) = np.cov(numerator, denominator, ddof=1) * t_quantile((1 + confidence) / 2, n - 1) ** 2 / n
    a, b, c = x**2 - float(xx), x * y - float(xy), y**2 - float(yy)
    value = y / x if x else float("nan")
    if a <= 0:
        return Ratio(value, -inf, inf)
    half = sqrt(max(0.0, b**2 - a * c))
    return Ratio(value, (b - half) / a, (b + half) / a)


def word(phi: Ratio, gain: tuple[float, float], words: Words) -> str:
    """Return the verdict on phi, read in this order.

    Args:
        phi: The share of the loss that is due to the kinds.
        gain: Interval of D - A in points, at the same level.
        words: The bounds.
    """
    if not gain[0] >= words.floor:
        return NOT_MEASURABLE
    low, high = phi.low, phi.high
    for meets, said in (
        (-words.negligible < low and high < words.negligible, "negligible"),
        (high < 0, "harmful"),
        (low > words.half, "more than number"),
        (words.low < low and high < words.high, "comparable with number"),
        (low > words.low, "at least comparable"),
        (low > 0 and high < words.half, "matters, less than number"),
    ):
        if meets:
            return said
    return UNDECIDED


def side(phi: Ratio, words: Words) -> str:
    """Return which side of one half phi lies on, whatever the word: more, less, or open.

    The word alone could turn from "less than number" into "comparable" as an interval narrows; this never turns.
    """
    return "less than half" if phi.high < words.half else "more than half" if phi.low > words.half else "open"


@dataclass(frozen=True)
class Factorial:
    """The factorial of breadth and number on one design.

    Attributes:
        phi: Share of D - A that is due to the kinds.
        breadth, number, gain: Effects in points, one per unit: of the kinds, of the images, and of both (D - A).
        interval: Of the mean gain, at the level of phi.
        verdict: The word.
        side: See ``side``.
    """

    phi: Ratio
    breadth: np.ndarray
    number: np.ndarray
    gain: np.ndarray
    interval: tuple[float, float]
    verdict: str
    side: str


def factorial(arms: Mapping[str, Float[np.ndarray, "n"]], words: Words) -> Factorial:
    """Judge a factorial.

    Args:
        arms: Outcomes in points of A (n, half of the kinds), B (n, all), C (2n, half) and D (2n, all), one per unit.
        words: The bounds and the level.
    """
    a, b, c, d = (np.asarray(arms[name], dtype=np.float64) for name in FACTORIAL)
    breadth, number, gain = ((b - a) + (d - c)) / 2, ((c - a) + (d - b)) / 2, d - a
    phi = fieller(breadth, gain, words.confidence)
    interval = t_interval(gain.tolist(), confidence=words.confidence)
    return Factorial(phi, breadth, number, gain, interval, word(phi, interval, words), side(phi, words))


def units(table: Any, column: str, arms: tuple[str, ...], *, paired: bool) -> dict[str, np.ndarray]:
    """Return a column of each arm, one value per unit for which all arms have finished in all of its cuts.

    Args:
        table: Rows of one design that have a result.
        column: What to return; shares of images become points.
        arms: Arms.
        paired: Units are pairs of cuts 2j, 2j + 1, else cuts.
    """
    scale = 1.0 if column.startswith("topk") or column in ("vendi_u", "vendi_outside", "coverage") else 100.0
    wide = table[table["arm"].isin(arms)].pivot_table(index="cut", columns="arm", values=column, aggfunc="mean")
    wide = wide.reindex(columns=list(arms)).dropna() * scale
    if paired:
        complete = [cut for cut in wide.index if (cut ^ 1) in wide.index]
        wide = wide.loc[complete]
        wide = wide.groupby(wide.index // 2).mean()
    return {arm: wide[arm].to_numpy() for arm in arms}

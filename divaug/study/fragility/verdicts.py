"""From effects to verdicts: interval, null, p and the verdict on a claim.

The p-value is from the exact sign-flip permutation over seeds, corrected by Holm over the primary rows of all data sets
that are judged together. The interval is Student's t.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DataError
from divaug.base.stats import holm, sign_flip_p, t_interval, t_quantile
from divaug.study.fragility.claims import Row, mean_of, rows_of

MIN_SEEDS = 6  # the exact two-sided p of five pairs cannot fall below 0.0625
ALPHA = 0.05
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decided"
NOT_MEASURABLE = "not measurable"


def verdict(
    mean: float, low: float, high: float, p: float, direction: int, n: int, null: tuple[float, float] | None = None
) -> str:
    """Return the verdict on an effect.

    *supported*: p < 0.05 (corrected) with the predicted sign, and outside the null's interval if there is one;
    *contradicted*: the same with the other sign; *not decided*: anything else, and always with fewer than six seeds.
    """
    if n < MIN_SEEDS or not p < ALPHA or not (low > 0 or high < 0):
        return UNDECIDED
    if null is not None and null[0] <= mean <= null[1]:
        return UNDECIDED
    return CONTRADICTED if direction and np.sign(mean) != direction else SUPPORTED


def judge(table: Any, methods: Sequence[str], beside: Sequence[Any] = (), dataset: str = "") -> Any:
    """Return the verdict table: one row per effect, with n, mean, interval, null, p, corrected p and verdict.

    A row whose classes are not learned or not recognised (``floor``) is not measurable: it has no verdict and is no
    test that Holm's correction counts.

    Args:
        table: Evidence.
        methods: Methods; claims are judged by the first.
        beside: Verdict tables of other data sets, whose primary rows the correction counts too.
        dataset: Name of the data set.
    """
    import pandas as pd

    rows = rows_of(table, methods)
    ps = [sign_flip_p(row.values.tolist()) for row in rows]
    tested = [row.primary and not row.floor for row in rows]
    others = [float(p) for one in beside for p in corrected_for(one)["p"]]
    corrected = iter(holm([*(p for p, test in zip(ps, tested, strict=True) if test), *others]))
    out = []
    for row, p, test in zip(rows, ps, tested, strict=True):
        known = row.values[~np.isnan(row.values)]
        low, high = t_interval(known.tolist())
        null = None if row.null is None else null_interval(row.null)
        used = next(corrected) if test else p

        def decide(p: float, row: Row = row, found: Any = (known, low, high, null)) -> str:
            values, low, high, null = found
            if row.floor:
                return NOT_MEASURABLE
            return verdict(values.mean(), low, high, p, row.direction, len(values), null)

        out.append(
            {
                "dataset": dataset, "claim": row.claim, "statement": row.statement, "measure": row.measure,
                "kind": row.kind, "method": row.method, "primary": row.primary, "n": len(known),
                "effect": mean_of(known), "low": low, "high": high, "null_low": null[0] if null else np.nan,
                "null_high": null[1] if null else np.nan, "reference": row.scale, "pair": row.pair, "p": p,
                "p_holm": used if test else np.nan, "uncorrected": decide(p), "verdict": decide(used),
                "floor": row.floor,
            }
        )  # fmt: skip
    return pd.DataFrame(out)


def corrected_for(verdicts: Any) -> Any:
    """Return the rows of a verdict table that Holm's correction counts: primary and measurable."""
    return verdicts[verdicts["primary"].astype(bool) & (verdicts["verdict"] != NOT_MEASURABLE)]


def read_verdicts(path: Path) -> Any:
    """Read a verdict table.

    Raises:
        DataError: The file is not one.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=["nan"])
        numbers = ["effect", "low", "high", "null_low", "null_high", "p", "p_holm"]
        return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in numbers})[_COLUMNS]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a table of verdicts: {error}") from error


_COLUMNS = [
    "dataset", "claim", "statement", "measure", "kind", "method", "primary", "n", "effect", "low", "high", "null_low",
    "null_high", "p", "p_holm", "verdict", "floor",
]  # fmt: skip


def null_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return the interval that holds the mean over seeds 19 times out of 20 when nothing but the seed differs."""
    known = values[~np.isnan(values)]
    if len(known) < 3:
        return None
    # The sign of a difference of two seeds is arbitrary, so its true mean is 0.
    half = float(t_quantile(0.975, len(known)) * np.sqrt((known**2).mean() / len(known)))
    return -half, half


def changes(verdicts: Any) -> list[str]:
    """Return a sentence for every raw answer that changes when matched for size and scale.

    Both are judged by their uncorrected p: Holm's correction covers the primary rows only and would look like an effect
    of matching.
    """
    sentences = []
    paired = verdicts[verdicts["pair"] != ""]
    for (claim, method, _), rows in paired.groupby(["claim", "method", "pair"], sort=False):
        for _, before in rows[rows["kind"] == "raw"].iterrows():
            for _, after in rows[rows["kind"] == "matched"].iterrows():
                if before["uncorrected"] != after["uncorrected"]:
                    sentences.append(
                        f"{claim}, {method}: {before['measure']} says {before['uncorrected']}, "
                        f"{after['measure']} says {after['uncorrected']}"
                    )
    return sentences

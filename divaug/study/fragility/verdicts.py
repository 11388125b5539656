"""From effects to verdicts: interval, null, p and the verdict on a claim.

The p-value is from the exact sign-flip permutation over seeds, corrected by Holm over the claims' primary rows. The
interval is BCa; with eight seeds it covers 0.86 to 0.90 of the time instead of the nominal 0.95.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from divaug.base.stats import holm, mean_interval, sign_flip_p
from divaug.study.fragility.claims import rows_of

MIN_SEEDS = 6  # the exact two-sided p of five pairs cannot fall below 0.0625
ALPHA = 0.05
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "not decided"


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


def judge(table: Any, methods: Sequence[str]) -> Any:
    """Return the verdict table: one row per effect, with n, mean, interval, null, p, corrected p and verdict."""
    import pandas as pd

    rows = rows_of(table, methods)
    ps = [sign_flip_p(row.values.tolist()) for row in rows]
    corrected = iter(holm([p for p, row in zip(ps, rows, strict=True) if row.primary]))
    out = []
    for row, p in zip(rows, ps, strict=True):
        known = row.values[~np.isnan(row.values)]
        low, high = mean_interval(known.tolist())
        null = None if row.null is None else null_interval(row.null)
        used = next(corrected) if row.primary else p
        out.append(
            {
                "claim": row.claim, "statement": row.statement, "measure": row.measure, "kind": row.kind,
                "method": row.method, "primary": row.primary, "n": len(known), "effect": known.mean(), "low": low,
                "high": high, "null_low": null[0] if null else np.nan, "null_high": null[1] if null else np.nan,
                "reference": row.scale, "pair": row.pair, "p": p, "p_holm": used if row.primary else np.nan,
                "uncorrected": verdict(known.mean(), low, high, p, row.direction, len(known), null),
                "verdict": verdict(known.mean(), low, high, used, row.direction, len(known), null),
                "caveat": row.caveat,
            }
        )  # fmt: skip
    return pd.DataFrame(out)


def null_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return the interval that holds the mean over seeds 19 times out of 20 when nothing but the seed differs."""
    from scipy.stats import t

    known = values[~np.isnan(values)]
    if len(known) < 3:
        return None
    # The sign of a difference of two seeds is arbitrary, so its true mean is 0.
    half = float(t.ppf(0.975, len(known)) * np.sqrt((known**2).mean() / len(known)))
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

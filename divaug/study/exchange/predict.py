"""Does a measure of the images, taken before training, predict accuracy beyond their number? Leaving one arm out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

MEASURES = ("vendi_u", "coverage", "shift", "radius", "margin", "topk_ce_heldout", "topk_fe_heldout")


def left_out_r2(features: Float[np.ndarray, "N F"], outcome: Float[np.ndarray, "N"], arms: Sequence[str]) -> float:
    """Return R^2 of predictions of every arm by a linear regression on the other arms; NaN for fewer than three arms.

    1 is perfect, 0 is no better than predicting 0, and it may be negative. Centre outcome and features first, so that 0
    is the mean of all arms: predictions have no constant.

    Args:
        features: One row per run.
        outcome: What is predicted.
        arms: The arm of each run.

    Example:
        >>> import numpy as np
        >>> from divaug.study.exchange.predict import left_out_r2
        >>> x = np.array([[-1.5], [-0.5], [0.5], [1.5]])
        >>> left_out_r2(x, 2 * x[:, 0], ["a", "b", "c", "d"])
        1.0
    """
    names = np.asarray(arms)
    if len(set(arms)) < 3:
        return float("nan")
    missed = 0.0
    for name in sorted(set(arms)):
        out = names == name
        weights = np.linalg.lstsq(features[~out], outcome[~out], rcond=None)[0]
        missed += float(((outcome[out] - features[out] @ weights) ** 2).sum())
    total = float((outcome**2).sum())
    return round(1 - missed / total, 12) if total else float("nan")


def prediction_table(rows: Any, column: str) -> Any:
    """Return a DataFrame: R^2 of log2 n alone, and of log2 n with each measure.

    Arms are compared within cuts: the mean of each cut is subtracted from outcome and measures, so that an easy cut
    does not count for its measures.

    Args:
        rows: Rows of a study that have a result, of one data set and design.
        column: The outcome.
    """
    import pandas as pd

    wanted = [name for name in MEASURES if rows[name].notna().all()]
    if rows["breadth"].nunique() > 1:
        wanted = ["breadth", *wanted]  # the label of the arm: what a measure has to beat
    table = rows[["arm", "cut", column, *wanted]].assign(log_n=np.log2(rows["n"]))
    numbers = [column, "log_n", *wanted]
    within = table[numbers] - table.groupby("cut")[numbers].transform("mean")
    arms, outcome = table["arm"].tolist(), within[column].to_numpy()
    out = [{"predictors": "log2 n", "R2": left_out_r2(within[["log_n"]].to_numpy(), outcome, arms)}]
    for name in wanted:
        both = within[["log_n", name]].to_numpy()
        out.append({"predictors": f"log2 n and {name}", "R2": left_out_r2(both, outcome, arms)})
    return pd.DataFrame(out)

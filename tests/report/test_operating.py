"""Lines on a threshold: the intervals count images of one group as fewer, that of precision too."""

import numpy as np
import pandas as pd
import pytest

from divaug.base.stats import effective_number, wilson_interval
from divaug.report.operating import lines_of
from divaug.runs.decision import Decision


@pytest.mark.parametrize("grouped", [True, False])
def test_the_interval_of_precision_counts_called_images_by_their_groups(grouped):
    """Thirty groups of four images each, alike: 22 groups of the class and eight others."""
    rng = np.random.default_rng(0)
    of = np.arange(120) % 30
    own = of < 22
    scores = (0.5 + 0.12 * rng.normal(size=30)[of] + 0.02 * rng.normal(size=120)).clip(0.01, 0.99)
    table = pd.DataFrame({
        "label": np.where(own, "a", "b"), "p_a": scores, "p_b": 1 - scores,
        "label_probability": np.where(own, scores, 1 - scores), "group": [f"g{g}" for g in of],
    })  # fmt: skip
    table = table if grouped else table.drop(columns="group")
    called = scores >= 0.45
    right, number = int((called & own).sum()), int(called.sum())
    count = effective_number(table["label_probability"].to_numpy()[called], of[called]) if grouped else number
    assert not grouped or count < 0.9 * number
    low, high = wilson_interval(right / number, count)
    said = f"of {number} called a, {100 * right / number:.1f} % [{100 * low:.1f}, {100 * high:.1f}] are"
    assert said in lines_of(table, Decision(thresholds={"a": 0.45}), ["a", "b"], "a")[1]

import numpy as np
import pandas as pd
import pytest

from divaug.study.exchange.predict import MEASURES, left_out_r2, prediction_table


def test_each_arm_is_predicted_by_the_others():
    """A slow leave-one-arm-out loop with its own regression."""
    rng = np.random.default_rng(0)
    features, outcome, arms = rng.normal(size=(30, 2)), rng.normal(size=30), list("abcde" * 6)
    missed = 0.0
    for arm in "abcde":
        rest = [i for i in range(30) if arms[i] != arm]
        x = features[rest]
        weights = np.linalg.solve(x.T @ x, x.T @ outcome[rest])
        missed += sum((outcome[i] - features[i] @ weights) ** 2 for i in range(30) if arms[i] == arm)
    assert left_out_r2(features, outcome, arms) == pytest.approx(1 - missed / (outcome**2).sum())
    assert np.isnan(left_out_r2(features[:2], outcome[:2], ["a", "b"]))


def test_predicting_nothing_is_worth_nothing():
    outcome = np.array([1.0, -1.0, 2.0, -2.0])
    assert left_out_r2(np.zeros((4, 1)), outcome, list("abcd")) == 0


def table(**columns):
    rng = np.random.default_rng(1)
    rows = pd.DataFrame(
        [
            {"arm": arm, "cut": cut, "n": n, "breadth": 16}
            for cut in range(6)
            for arm, n in zip("ABCD", (1, 1, 2, 2), strict=True)
        ]
    )
    for name in MEASURES:
        rows[name] = rng.normal(size=len(rows))
    return rows.assign(**columns)


def test_a_measure_that_carries_the_outcome_predicts_it_and_noise_does_not():
    rows = table()
    rows["vendi_u"] = rows["arm"].map({"A": 1.0, "B": 3.0, "C": 1.5, "D": 2.5})
    rows["outcome"] = np.log2(rows["n"]) + 0.5 * rows["vendi_u"] + 10 * rows["cut"]
    found = prediction_table(rows, "outcome").set_index("predictors")["R2"]
    assert found["log2 n and vendi_u"] == pytest.approx(1)
    assert found["log2 n"] < 0.9
    assert list(found.index) == ["log2 n", *(f"log2 n and {name}" for name in MEASURES)]


def test_what_an_easy_cut_has_does_not_count():
    rows = table()
    rows["coverage"] = rows["cut"].astype(float)  # follows the cut and tells nothing about arms
    rows["outcome"] = rows["arm"].map({"A": 0.0, "B": 1.0, "C": 0.0, "D": 1.0}) + 100 * rows["cut"]
    found = prediction_table(rows, "outcome").set_index("predictors")["R2"]
    assert found["log2 n and coverage"] == pytest.approx(found["log2 n"])


def test_a_measure_with_gaps_is_left_out():
    assert (
        "log2 n and shift"
        not in prediction_table(table(shift=np.nan, outcome=1.0 * table()["n"]), "outcome")["predictors"].tolist()
    )


def test_the_label_of_the_arm_stands_beside_the_measures():
    rows = table()
    rows["breadth"] = rows["arm"].map({"A": 8, "B": 16, "C": 8, "D": 16})
    rows["outcome"] = np.log2(rows["n"]) + 0.1 * rows["breadth"]
    found = prediction_table(rows, "outcome").set_index("predictors")["R2"]
    assert found["log2 n and breadth"] == pytest.approx(1)
    assert found.index[1] == "log2 n and breadth"

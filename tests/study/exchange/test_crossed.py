import numpy as np
import pandas as pd
import pytest

from divaug.base.errors import DataError
from divaug.study.exchange.crossed import crossed_interval, recognised
from divaug.study.exchange.cut import manipulated
from divaug.study.exchange.rows import packed
from tests.study.exchange.conftest import DESIGN

LABELS = np.repeat(np.arange(10), 60)


def simulated(units, seed, spread=0.0, means=(0.5, 0.53, 0.6, 0.63)):
    """Images of varying difficulty, the same for all arms and units; phi is 3 / 13."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 0.2, len(LABELS))
    out = np.empty((units, 4, len(LABELS)), dtype=bool)
    for unit in range(units):
        luck = rng.normal(0, spread, 4)
        for arm in range(4):
            out[unit, arm] = rng.random(len(LABELS)) < np.clip(means[arm] + luck[arm] + difficulty, 0, 1)
    return out


def test_it_is_wider_than_over_units_alone_and_holds_the_ratio():
    correct = simulated(12, 0)
    low, high = crossed_interval(correct, LABELS, 0.95, rng=np.random.default_rng(0), resamples=500)
    value = correct.mean((0, 2))
    phi = ((value[1] - value[0]) + (value[3] - value[2])) / 2 / (value[3] - value[0])
    assert low < phi < high
    rng = np.random.default_rng(1)
    recalls = correct.mean(2)
    alone = []
    for _ in range(500):
        a, b, c, d = recalls[rng.integers(0, 12, 12)].mean(0)
        alone.append(((b - a) + (d - c)) / 2 / (d - a))
    assert high - low > 1.2 * np.ptp(np.quantile(alone, (0.025, 0.975)))


def test_without_any_chance_there_is_no_interval():
    """Every image of a class is alike, and so is every unit."""
    one = np.zeros((4, len(LABELS)), dtype=bool)
    for arm, classes in enumerate((4, 5, 6, 7)):
        one[arm] = classes > LABELS
    found = crossed_interval(np.array([one] * 3), LABELS, 0.95, rng=np.random.default_rng(0), resamples=20)
    assert found == pytest.approx((1 / 3, 1 / 3))


def test_bits_find_their_images_in_pairs_of_complementary_cuts():
    truth = simulated(2, 3)
    rows = []
    for pair in range(2):
        for cut in (2 * pair, 2 * pair + 1):
            own = np.isin(LABELS, manipulated(10, DESIGN, cut))
            rows += [
                {"prereg": "p", "dataset": "digits", "design": "longtailed", "variant": "main", "arm": arm, "cut": cut,
                 "images": own.sum(), "correct": packed(truth[pair, i, own])}
                for i, arm in enumerate("ABCD")
            ]  # fmt: skip
    table = pd.DataFrame(rows)
    np.testing.assert_array_equal(recognised(DESIGN, "p", table, LABELS, 10), truth)
    np.testing.assert_array_equal(recognised(DESIGN, "p", table.drop(index=0), LABELS, 10), truth[1:])
    assert recognised(DESIGN, "q", table, LABELS, 10).shape == (0, 4, 600)
    with pytest.raises(DataError, match="has 300 images, not"):
        recognised(DESIGN, "p", table, LABELS[:-7], 10)

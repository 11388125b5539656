import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divaug.data.split import carve


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.floats(0.05, 0.6), st.integers(0, 9))
def test_stratified_and_sparing(counts, frac, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    held = carve(labels, frac, seed)
    for c, n in enumerate(counts):
        size, taken = max(1, round(frac * n)), held[labels == c].sum()
        assert taken == (size if n - size >= 2 else 0)


def test_seeds_differ_and_repeat():
    labels = np.repeat([0, 1], 50)
    assert (carve(labels, 0.2, 1) == carve(labels, 0.2, 1)).all()
    assert (carve(labels, 0.2, 1) != carve(labels, 0.2, 2)).any()


@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_whole_and_rare_classes_are_covered(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 900)
    labels = np.where(rng.random(900) < 0.9, 0, 1)
    labels[:2] = 2  # two images in two groups
    groups[:2] = [3, 44]
    held = carve(labels, 0.2, seed, groups.astype(str))
    assert not set(groups[held]) & set(groups[~held])
    assert held.mean() == pytest.approx(0.2, abs=0.1)
    for c in (0, 1, 2):
        assert (~held)[labels == c].any() and held[labels == c].any()


def test_one_group_cannot_be_split():
    assert not carve(np.array([0, 1, 0, 1]), 0.5, 0, np.array(["a"] * 4)).any()

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divaug.base.errors import DataError
from divaug.data.longtail import class_ranks, cut, profile_counts

CIFAR10 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
LABELS = np.repeat(np.arange(4), 40)[np.random.default_rng(0).permutation(160)]


def test_exp_profile_is_the_literatures():
    counts = profile_counts("exp", np.full(10, 5000), 100.0, np.arange(10))
    assert counts.tolist() == CIFAR10 and counts.sum() == 12_406
    assert profile_counts("exp", np.full(10, 5000), 50.0, np.arange(10)).sum() == 13_996
    assert profile_counts("exp", np.full(100, 500), 100.0, np.arange(100)).sum() == 10_847
    assert profile_counts("exp", np.full(100, 500), 50.0, np.arange(100)).sum() == 12_608


def test_other_profiles():
    available, ranks = np.full(4, 40), np.arange(4)
    assert profile_counts("step", available, 10.0, ranks).tolist() == [40, 40, 4, 4]
    assert profile_counts("linear", available, 10.0, ranks).tolist() == [40, 28, 16, 4]  # a step of 36 / 3
    ten = profile_counts("linear", np.full(10, 1000), 10.0, np.arange(10))
    assert ten.tolist() == list(range(1000, 0, -100))
    assert profile_counts("balanced", available, 10.0, ranks).tolist() == [40] * 4
    assert profile_counts("exp", available, 10.0, ranks).tolist() == [40, 18, 8, 4]
    assert profile_counts("balanced_small", available, 10.0, ranks).tolist() == [17] * 4
    assert profile_counts("natural", np.array([9, 2, 5]), 10.0, np.arange(3)).tolist() == [9, 2, 5]


def test_class_orders():
    assert class_ranks(4, "native").tolist() == [0, 1, 2, 3]
    assert class_ranks(4, "reversed").tolist() == [3, 2, 1, 0]
    permuted = class_ranks(10, "permuted:1")
    assert sorted(permuted) == list(range(10)) and permuted.tolist() != class_ranks(10, "permuted:2").tolist()
    assert cut(LABELS, 4, factor=10.0, order="reversed").counts.tolist() == [4, 8, 18, 40]


def test_literature_subset_is_ldam_drws(global_rngs_untouched):
    ours = cut(LABELS, 4, factor=10.0, seed=0)
    generator, expected = np.random.RandomState(0), []
    for c, n in enumerate([40, 18, 8, 4]):
        members = np.where(c == LABELS)[0]
        generator.shuffle(members)
        expected += members[:n].tolist()
    assert ours.indices.tolist() == sorted(expected)
    assert ours.sha256 == hashlib.sha256(np.array(sorted(expected), dtype="<i8").tobytes()).hexdigest()


@settings(max_examples=30, deadline=None)
@given(
    st.floats(1, 20),
    st.floats(1, 20),
    st.integers(0, 5),
    st.sampled_from(["native", "reversed", "permuted:3"]),
)
def test_nested_subsets_are_nested(one, other, seed, order):
    small, large = (
        cut(LABELS, 4, factor=f, seed=seed, subset="nested", order=order) for f in sorted((one, other))[::-1]
    )
    assert set(small.indices) <= set(large.indices)
    assert np.bincount(LABELS[small.indices], minlength=4).tolist() == small.counts.tolist()
    assert len(set(small.indices)) == len(small.indices)


def test_controls_keep_the_long_tails_groups():
    for profile in ("balanced", "balanced_small"):
        assert cut(LABELS, 4, profile=profile, factor=10.0).group_counts.tolist() == [40, 18, 8, 4]


def test_custom_counts_and_a_cap():
    assert cut(LABELS, 4, profile="custom", counts=(3, 40, 1, 2)).counts.tolist() == [3, 40, 1, 2]
    assert cut(LABELS, 4, profile="natural", max_per_class=7).counts.tolist() == [7] * 4
    assert cut(LABELS, 4, factor=10.0, max_per_class=20).counts.tolist() == [20, 9, 4, 2]  # the factor stays


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"factor": 100.0}, "leaves classes .* with no image"),
        ({"profile": "custom", "counts": (1, 2)}, "counts names 2 classes, but the data have 4"),
        (
            {"profile": "custom", "counts": (1, 2, 41, 3)},
            r"classes \[2\] have only \[40\] images, but \[41\] are wanted",
        ),
    ],
)
def test_impossible_cuts_are_refused(kwargs, message):
    with pytest.raises(DataError, match=message):
        cut(LABELS, 4, **kwargs)
    with pytest.raises(DataError, match="there is one class"):
        cut(np.zeros(9, dtype=np.int64), 1)
    with pytest.raises(DataError, match=r"classes \[4\] have no training image"):
        cut(LABELS, 5)


def test_cifar10_seed_0_subset(real_data):
    from divaug.data.datasets.cifar10 import cifar10
    from divaug.data.images import Request

    dataset = cifar10(Request(data_root=str(real_data)))
    ours = cut(dataset.train.labels, 10)
    assert ours.counts.tolist() == CIFAR10
    assert ours.sha256 == "f7669c469c9ddf9afcfabc0b127018ebfa21ac9ecddbe2642455be26c359cb8d"

from dataclasses import replace

import numpy as np
import pytest

from divaug.base.errors import ConfigError, DataError
from divaug.latent.diversity import unbiased_vendi
from divaug.models.encoder import Encoder
from divaug.study.exchange.cut import CutImages, manipulated
from divaug.study.exchange.plan import Arm
from divaug.study.exchange.spaces import Spaces, margins, rotation_features
from divaug.study.select import joint_rows


@pytest.fixture(scope="module")
def cut(source, encoders):
    from tests.study.exchange.conftest import DESIGN

    return CutImages(source, DESIGN, 0, encoders)


def test_pool_encoders_quarter_and_held_out_quarter_are_disjoint(source):
    every = np.concatenate([source.pool, source.b1, source.b2])
    assert len(set(every.tolist())) == len(every) == len(source.dataset.train.labels)
    labels = source.dataset.train.labels
    for c in range(10):
        sizes = [(labels[rows] == c).sum() for rows in (source.pool, source.b1, source.b2)]
        assert abs(sizes[0] - 2 * sizes[1]) <= 3 and abs(sizes[1] - sizes[2]) <= 1


def test_cuts_of_a_pair_manipulate_complementary_halves(design):
    for pair in range(6):
        first, second = (manipulated(10, design, 2 * pair + i) for i in (0, 1))
        assert sorted(first + second) == list(range(10)) and len(first) == 5
    assert manipulated(10, design, 0) != manipulated(10, design, 2)
    assert manipulated(10, replace(design, name="balanced", heads=0), 3) == list(range(10))


def test_narrow_arms_take_images_of_half_of_the_kinds_and_others_of_all(cut):
    for name, arm in cut.design.arms.items():
        for c, chosen in cut.chosen(arm).items():
            pool = cut.pools[c]
            kinds = set(pool.kinds.of[chosen].tolist())
            assert len(set(chosen.tolist())) == len(chosen) == (8 if name in "AB" else 16)
            assert (kinds <= set(pool.kept.tolist())) == (name in "AC")


def test_a_and_c_share_their_kinds_and_draw_apart(cut):
    a, b, c, d = (cut.chosen(cut.design.arms[name]) for name in "ABCD")
    for one, other in ((a, c), (b, d), (a, b)):
        assert any(not set(one[k].tolist()) <= set(other[k].tolist()) for k in one)


def test_training_images_are_of_the_pool_and_of_the_right_class(cut, source):
    for arm in cut.design.arms.values():
        rows = cut.training(arm)
        assert (np.diff(rows) > 0).all() and set(rows.tolist()) <= set(source.pool.tolist())
        counts = np.bincount(source.dataset.train.labels[rows], minlength=10)
        tails = np.isin(np.arange(10), cut.manipulated)
        assert (counts[tails] == round(8 * arm.number)).all() and (counts[~tails] == 30).all()


def test_head_images_are_the_same_in_all_arms(cut, source):
    labels = source.dataset.train.labels
    sets = [
        {row for row in cut.training(arm).tolist() if labels[row] not in cut.manipulated}
        for arm in cut.design.arms.values()
    ]
    assert all(one == sets[0] for one in sets)


def test_copies_are_of_the_same_images(cut):
    twice = cut.training(replace(cut.design.arms["A"], copies=2))
    once = cut.training(cut.design.arms["A"])
    tails = np.concatenate([cut.pools[c].rows[rows] for c, rows in cut.chosen(cut.design.arms["A"]).items()])
    assert sorted(twice.tolist()) == sorted([*once.tolist(), *tails.tolist()])


def test_method_and_augmentation_change_no_image(cut):
    arm = cut.design.arms["A"]
    other = cut.training(replace(arm, method="ros", options={"pixel": "none"}))
    np.testing.assert_array_equal(other, cut.training(arm))


def test_arms_of_all_kinds_do_not_depend_on_the_number_of_kinds_or_the_space(source, encoders, design, cut):
    finer = CutImages(source, replace(design, kinds=2), 0, encoders)
    alone = CutImages(source, replace(design, encoder="1"), 0, encoders)
    for other in (finer, alone):
        for name in "BD":
            np.testing.assert_array_equal(other.training(design.arms[name]), cut.training(design.arms[name]))
        assert any((other.training(design.arms[n])[:5] != cut.training(design.arms[n])[:5]).any() for n in "AC")


def test_another_cut_draws_anew(source, encoders, design, cut):
    other = CutImages(source, design, 2, encoders)
    assert other.which == 1 and cut.which == 0
    assert set(other.training(design.arms["B"]).tolist()) != set(cut.training(design.arms["B"]).tolist())
    assert CutImages(source, design, 1, encoders).which == 0  # of one pair: the same network


def test_held_out_images_have_the_kind_of_the_nearest_centre(cut, source):
    part = source.dataset.test
    c = cut.manipulated[0]
    pool = cut.pools[c]
    spaces = cut.spaces(source.dataset.train.take(pool.rows))
    means = [space.mean(0) for space in spaces]
    rows = np.flatnonzero(part.labels == c)
    for row in rows[:5]:
        parts = [
            (x[0] - mean) / np.linalg.norm(x[0] - mean)
            for x, mean in zip(cut.spaces(part.take(np.array([row]))), means, strict=True)
        ]
        joint = np.concatenate(parts) / np.sqrt(3)
        assert cut.kind_of[row] == ((pool.kinds.centres - joint) ** 2).sum(1).argmin()
    moved = 0
    for other, its in cut.pools.items():  # by the pool's means: by their own, some would be of another kind
        rows_of = np.flatnonzero(part.labels == other)
        found = cut.spaces(part.take(rows_of))
        theirs = [space.mean(0) for space in cut.spaces(source.dataset.train.take(its.rows))]
        np.testing.assert_array_equal(cut.kind_of[rows_of], its.kinds.nearest(joint_rows(found, theirs)))
        moved += (its.kinds.nearest(joint_rows(found)) != cut.kind_of[rows_of]).sum()
    assert moved > 0
    kept = cut.kept()
    assert set(kept[rows]) <= {0.0, 1.0}
    np.testing.assert_array_equal(kept[rows] == 1, np.isin(cut.kind_of[rows], pool.kept))
    assert np.isnan(kept[~np.isin(part.labels, cut.manipulated)]).all()


def test_the_outcome_is_measured_on_the_part_that_the_design_names(source, encoders, design, cut):
    assert cut.part is source.dataset.test
    while_designing = CutImages(source, replace(design, outcome="b2"), 0, encoders)
    np.testing.assert_array_equal(while_designing.part.labels, source.dataset.train.labels[source.b2])


def test_measures_are_those_of_the_images_chosen(cut):
    arm = cut.design.arms["A"]
    found, chosen = cut.measures(arm), cut.chosen(arm)
    by_hand = [unbiased_vendi(cut.pools[c].joint[rows]) for c, rows in chosen.items()]
    assert found["vendi_u"] == pytest.approx(np.mean(by_hand))
    outside = [unbiased_vendi(cut.pools[c].outside[rows]) for c, rows in chosen.items()]
    assert found["vendi_outside"] == pytest.approx(np.mean(outside))
    for name in ("radius", "margin", "brightness", "contrast"):
        smd = []
        for c, rows in chosen.items():
            values = cut.pools[c].values[name]
            smd.append((values[rows].mean() - values.mean()) / values.std())
        assert found[f"smd_{name}"] == pytest.approx(np.mean(smd))
    assert found["smd_max"] == max(abs(found[f"smd_{n}"]) for n in ("radius", "margin", "brightness", "contrast"))
    assert found["radius"] == pytest.approx(
        np.mean([cut.pools[c].values["radius"][r].mean() for c, r in chosen.items()])
    )
    shares = [np.isin(pool.kinds.of, pool.kept).mean() for pool in cut.pools.values()]
    assert found["mass"] == pytest.approx(np.mean(shares))


def test_the_outside_space_is_of_the_next_encoder(cut, source, encoders):
    c = cut.manipulated[0]
    pool = source.dataset.train.take(cut.pools[c].rows)
    for number, same in ((0, False), (1, True)):
        seen = rotation_features(encoders[number], source, pool)
        assert np.allclose(cut.pools[c].outside, seen - seen.mean(0), atol=1e-5) is same


def test_all_of_the_pool_is_balanced(cut):
    """Every image: no difference from the pool, radius 1, and the mean does not move."""
    whole = {c: np.arange(len(pool.rows)) for c, pool in cut.pools.items()}
    cut.chosen, kept = lambda arm: whole, cut.chosen
    try:
        found = cut.measures(cut.design.arms["B"])
    finally:
        cut.chosen = kept
    assert found["smd_max"] == pytest.approx(0, abs=1e-6)
    assert found["radius"] == pytest.approx(1)
    assert found["shift"] < 0.1  # rows are scaled to length one after centring, so their mean is near 0, not 0


def test_doses_move_the_spread(cut):
    low, natural, high = (
        cut.measures(Arm(2.0, dose=dose, match=("radius",)))["vendi_u"] for dose in ("low", "natural", "high")
    )
    assert low < natural < high
    for match in ((), ("radius", "margin")):
        assert cut.measures(Arm(2.0, dose="low", match=match))["vendi_u"] < natural
    herded, random = (cut.measures(Arm(2.0, dose=dose))["shift"] for dose in ("herding", "natural"))
    assert herded < random


def test_a_pool_that_is_too_small_is_named(source, encoders, design):
    small = CutImages(source, replace(design, n=60), 0, encoders)
    with pytest.raises(DataError, match=r"cut 0: class \d has \d+ images to draw 120 from"):
        small.training(design.arms["D"])


def test_an_encoder_that_has_seen_the_pool_is_refused(source, encoders):
    from divaug.data.halves import image_digests

    seen = np.unique(image_digests(source.dataset.train.take(source.pool[:3])))
    spoilt = Encoder(encoders[0].backbone, encoders[0].manifest, seen)
    with pytest.raises(ConfigError, match=r"trained on \d+ of these"):
        Spaces(source, spoilt, np.random.default_rng(0))


def test_margins_are_over_the_best_rival():
    scores = np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 5.0]])
    assert margins(scores, 0).tolist() == [1.0, -5.0]


def test_the_probe_learns_digits_from_quarter_b1(cut, source):
    part = source.dataset.test
    scores = cut.spaces.scores(cut.spaces(part))
    assert (scores.argmax(1) == part.labels).mean() > 0.8

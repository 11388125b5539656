import numpy as np
import pytest
import torch

from divaug.mix.partners.diverse import Diverse
from divaug.mix.partners.minority import Minority
from divaug.mix.partners.redundant import Redundant
from divaug.mix.partners.within_group import WithinGroup

COUNTS = torch.tensor([100, 30, 10])
LABELS = torch.repeat_interleave(torch.arange(3), COUNTS)
FEATURES = torch.rand(140, 16, generator=torch.Generator().manual_seed(0))


def draws(rule, receivers=None, steps=100, seed=0):
    rng = np.random.default_rng(seed)
    receivers = torch.zeros(128, dtype=torch.int64) if receivers is None else receivers
    return torch.cat([rule.draw(receivers, rng) for _ in range(steps)])


@pytest.mark.parametrize(
    ("power", "shares"),
    [
        (1.0, [1 / 3] * 3),
        (0.0, [100 / 140, 30 / 140, 10 / 140]),
        (0.5, [10 / 18.64, 5.477 / 18.64, 3.162 / 18.64]),
    ],
)
def test_minority_draws_from_the_whole_set_by_rarity(power, shares):
    drawn = draws(Minority(LABELS, COUNTS, power=power))
    seen = torch.bincount(LABELS[drawn], minlength=3) / len(drawn)
    assert seen.tolist() == pytest.approx(shares, abs=0.018)  # 4 sd, sd below 0.0045
    assert len(drawn.unique()) == 140


def test_within_group_stays_in_the_group_and_draws_its_pictures_alike():
    counts = torch.tensor([50, 40, 20, 10, 5, 3])
    labels = torch.repeat_interleave(torch.arange(6), counts)
    receivers = torch.tensor([0, 1, 2, 3, 4, 5] * 20)
    rule = WithinGroup(labels, counts)
    drawn = draws(rule, receivers)
    group = torch.tensor([0, 0, 1, 1, 2, 2])
    assert torch.equal(group[labels[drawn]], group[receivers.repeat(100)])
    head = labels[drawn][group[receivers.repeat(100)] == 0]
    # 4000 draws of class 0 with probability 5/9: sd 0.0079
    assert (head == 0).double().mean().item() == pytest.approx(5 / 9, abs=0.032)
    assert len(drawn.unique()) == 128


def novelty_by_loops(receiver, picture, k):
    sets = [set(torch.topk(row, k).indices[torch.topk(row, k).values > 0].tolist()) for row in FEATURES]
    members = [i for i in range(140) if LABELS[i] == receiver]
    frequency = {d: sum(d in sets[i] for i in members) / len(members) for d in range(16)}
    return sum(1 - frequency[d] for d in sets[picture]) / max(1, len(sets[picture]))


def test_novelty_is_what_loops_say():
    rule = Diverse(LABELS, COUNTS, FEATURES, k=4)
    for receiver in range(3):
        for picture in (0, 50, 120, 139):
            assert rule.novelty[picture, receiver] == pytest.approx(novelty_by_loops(receiver, picture, 4), abs=1e-6)


def test_features_that_are_not_positive_are_in_no_set():
    features = torch.zeros(3, 4)
    features[0, 1] = 1.0
    rule = Diverse(torch.tensor([0, 0, 1]), torch.tensor([2, 1]), features, k=3)
    assert rule.novelty.tolist() == [[0.5, 1.0], [0.0, 0.0], [0.0, 0.0]]  # half of class 0 has feature 1, class 1 none


def test_diverse_and_redundant_differ_in_nothing_but_the_picture():
    receivers = torch.tensor([0, 1, 2, 2] * 32)
    diverse, redundant = (kind(LABELS, COUNTS, FEATURES, k=4) for kind in (Diverse, Redundant))
    a, b = draws(diverse, receivers, seed=5), draws(redundant, receivers, seed=5)
    assert torch.equal(LABELS[a], LABELS[b])  # the same classes in the same rows
    every = receivers.repeat(100).numpy()
    gain_a, gain_b = diverse.novelty[a.numpy(), every], diverse.novelty[b.numpy(), every]
    assert (gain_a >= gain_b).all() and gain_a.mean() > gain_b.mean() + 0.05
    shares = torch.bincount(LABELS[a], minlength=3) / len(a)
    assert shares.tolist() == pytest.approx([100 / 140, 30 / 140, 10 / 140], abs=0.018)  # as the data are
    for receiver, giver in ((0, 0), (2, 1)):
        of_pair = (every == receiver) & (LABELS[a].numpy() == giver)
        ranking = sorted(np.flatnonzero(LABELS.numpy() == giver), key=lambda i: -diverse.novelty[i, receiver])
        quarter = ranking[: round(0.25 * len(ranking))]
        assert set(a.numpy()[of_pair]) == set(quarter)


def test_with_the_whole_share_both_are_one_uniform_draw_and_power_evens_classes():
    drawn = draws(Diverse(LABELS, COUNTS, FEATURES, k=4, share=1.0))
    assert len(drawn.unique()) == 140
    counts = torch.bincount(drawn, minlength=140).double()
    # 12,800 draws over 140 images: mean 91, sd 9.5; the extremes of 140 lie within 4.5 sd
    assert counts.min() > 48 and counts.max() < 135
    even = draws(Redundant(LABELS, COUNTS, FEATURES, k=4, power=1.0))
    assert (torch.bincount(LABELS[even], minlength=3) / len(even)).tolist() == pytest.approx([1 / 3] * 3, abs=0.017)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Minority(LABELS, COUNTS, power=-1.0), r"power must be >= 0, got -1\.0"),
        (lambda: Diverse(LABELS, COUNTS, FEATURES, k=17), r"k must lie in 1 to E = 16, got 17"),
        (lambda: Diverse(LABELS, COUNTS, FEATURES, share=0.0), r"share must lie in \(0, 1\], got 0\.0"),
        (lambda: Redundant(LABELS, COUNTS, FEATURES, power=-0.5), r"power must be >= 0, got -0\.5"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

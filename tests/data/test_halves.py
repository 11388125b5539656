import numpy as np

from divaug.data.halves import half, image_digests
from divaug.data.images import Part

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], [40, 21, 2])
IMAGES = RNG.integers(0, 256, (63, 4, 4, 1), dtype=np.uint8)


def test_halves_are_disjoint_complete_even_and_always_the_same():
    part = Part(IMAGES, LABELS)
    a, b = half(part, "a"), half(part, "b")
    assert (a ^ b).all() and (half(part, "a") == a).all()
    assert [int(a[c == LABELS].sum()) for c in range(3)] == [20, 11, 1]


def test_the_deal_follows_the_pictures_not_their_order():
    order = RNG.permutation(63)
    assert set(image_digests(Part(IMAGES, LABELS))) == set(image_digests(Part(IMAGES[order], LABELS[order])))
    assert (half(Part(IMAGES[order], LABELS[order]), "a") == half(Part(IMAGES, LABELS), "a")[order]).all()


def test_identical_pictures_and_groups_are_on_one_side():
    twice = Part(np.concatenate([IMAGES, IMAGES[:30]]), np.concatenate([LABELS, LABELS[:30]]))
    a = half(twice, "a")
    assert (a[:30] == a[63:]).all()
    groups = RNG.integers(0, 9, 63)
    grouped = half(Part(IMAGES, LABELS, groups), "b")
    assert all(len(set(grouped[groups == g])) == 1 for g in range(9)) and 0 < grouped.sum() < 63

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from divaug.latent.neighbours import ARCHETYPES, adversary_shares, archetypes, nearest

from .golden import random_bundle

OURS = random_bundle(counts=[40, 20, 12, 8])


def slow_nearest(bank, q, k):
    distances = cdist(bank[q : q + 1], bank)[0]
    distances[q] = np.inf
    return set(np.argsort(distances)[:k].tolist())


def test_neighbours_against_all_distances():
    queries = np.arange(0, 80, 3)
    found = nearest(OURS.features, queries, 4)
    assert [set(row) for row in found.tolist()] == [slow_nearest(OURS.features, q, 4) for q in queries]


def test_a_picture_is_never_its_own_neighbour_even_among_duplicates():
    # The authors' code drops the first neighbour, which after copying images is often another copy.
    bank = np.repeat(OURS.features[:3], 8, axis=0)
    found = nearest(bank, np.arange(24), 5)
    assert (found != np.arange(24)[:, None]).all()
    assert all(len(set(row)) == 5 and set(np.array(row) // 8) == {q // 8} for q, row in enumerate(found.tolist()))


def test_archetypes_by_same_class_neighbours():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    for same, name in ((5, "safe"), (4, "safe"), (3, "border"), (2, "border"), (1, "rare"), (0, "outlier")):
        neighbours = np.array([[*range(1, same + 1), *range(6, 6 + 5 - same)]])
        assert ARCHETYPES[archetypes(labels, np.array([0]), neighbours)[0]] == name
    with pytest.raises(ValueError, match="defined on 5 neighbours, got 3"):
        archetypes(labels, np.array([0]), np.array([[1, 2, 3]]))


def test_adversaries_are_the_other_classes_among_the_neighbours_of_missed_pictures():
    labels = np.array([0, 0, 1, 1, 2])
    neighbours = np.array([[1, 2, 4], [0, 2, 3]])  # labels 0 1 2 and 0 1 1
    assert adversary_shares(labels, neighbours, 0, 3) == pytest.approx([0, 0.75, 0.25])
    assert np.isnan(adversary_shares(labels, neighbours[:0], 0, 3)).all()
    assert np.isnan(adversary_shares(labels, np.array([[0, 1]]), 0, 3)).all()


@pytest.mark.parametrize("k", [0, 80])
def test_k_is_checked(k):
    with pytest.raises(ValueError, match="k must lie in 1 to N - 1 = 79"):
        nearest(OURS.features, np.arange(2), k)

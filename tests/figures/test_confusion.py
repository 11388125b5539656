"""The network of who is taken for whom."""

import numpy as np

from divaug.figures.confusion import strongest, taken_for


def test_the_strongest_edges_are_shares_of_labels_the_largest_first():
    matrix = np.array([[90, 10, 0], [1, 1, 2], [0, 0, 0]])
    assert strongest(matrix, 9) == [(1, 2, 0.5), (1, 0, 0.25), (0, 1, 0.1)]
    assert strongest(matrix, 2) == [(1, 2, 0.5), (1, 0, 0.25)]
    assert strongest(np.array([[995, 5], [0, 10]]), 9) == []  # below one in a hundred


def test_a_network_without_mistakes_can_be_drawn(tmp_path):
    assert taken_for(tmp_path / "network.png", np.eye(3, dtype=int), ["a", "b", "c"]).stat().st_size > 0

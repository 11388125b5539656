import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from divaug.base.rng import ClassDraw, device_generator, stream


def test_streams_are_stateless_and_differ_by_every_argument():
    def first(*key):
        return stream(*key).integers(2**62)

    assert first(0, "mix", 3, 7) == first(0, "mix", 3, 7)
    draws = {
        first(*key)
        for key in [
            (0, "mix", 3, 7),
            (1, "mix", 3, 7),
            (0, "pixel", 3, 7),
            (0, "mix", 4, 7),
            (0, "mix", 3, 8),
        ]
    }
    assert len(draws) == 5


def test_device_generator_follows_its_stream(global_rngs_untouched):
    a, b = (torch.rand(3, generator=device_generator(stream(0, "noise"), "cpu")) for _ in range(2))
    assert torch.equal(a, b)


def test_class_draw_has_exact_class_shares_and_uniform_pictures():
    labels = torch.tensor([2, 0, 0, 1, 0, 2, 0])
    draw = ClassDraw(labels, torch.tensor([1.0, 2.0, 1.0]))
    picks = draw.draw(np.random.default_rng(0), 40_000)
    expected = np.array([1 / 8, 1 / 16, 1 / 16, 1 / 2, 1 / 16, 1 / 8, 1 / 16])  # class share over class size
    # A right draw fails one seed in 10,000.
    assert chisquare(np.bincount(picks, minlength=7), 40_000 * expected).pvalue > 1e-4


def test_class_draw_has_no_limit_at_two_to_the_24():
    labels = torch.zeros(2**24 + 8, dtype=torch.int64)
    labels[-1] = 1
    picks = ClassDraw(labels, torch.tensor([1.0, 1.0])).draw(np.random.default_rng(0), 64)
    assert (picks == 2**24 + 7).sum() > 10  # half of the draws


def test_a_class_with_weight_needs_pictures():
    with pytest.raises(ValueError, match=r"classes \[1\] have no images"):
        ClassDraw(torch.tensor([0, 0, 2]), torch.ones(3))

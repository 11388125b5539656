import numpy as np
import pytest
import torch

from divaug.samplers.class_balanced_effective import ClassBalancedEffective
from divaug.samplers.oversample import Oversample
from divaug.samplers.progressively_balanced import ProgressivelyBalanced
from divaug.samplers.reversed import Reversed
from divaug.samplers.square_root import SquareRoot
from divaug.samplers.undersample import Undersample
from divaug.samplers.uniform import Uniform

COUNTS = torch.tensor([100, 25, 4])
LABELS = torch.repeat_interleave(torch.arange(3), COUNTS)


def test_uniform_visits_every_picture_once():
    drawn = Uniform(LABELS, COUNTS).draw(np.random.default_rng(0), 0.0)
    assert sorted(drawn.tolist()) == list(range(129))


def test_shares_are_the_formulas():
    assert Oversample(LABELS, COUNTS).class_probs(0.0).tolist() == pytest.approx([1 / 3] * 3)
    assert SquareRoot(LABELS, COUNTS).class_probs(0.0).tolist() == pytest.approx([10 / 17, 5 / 17, 2 / 17])
    assert SquareRoot(LABELS, COUNTS, power=1.0).class_probs(0.0).tolist() == pytest.approx((COUNTS / 129).tolist())
    assert SquareRoot(LABELS, COUNTS, power=0.0).class_probs(0.0).tolist() == pytest.approx([1 / 3] * 3)


def test_small_classes_are_raised_to_a_number():
    """25 and 4 images are drawn as if they were 50 each: 100 of 200, and a quarter each."""
    shares = Oversample(LABELS, COUNTS, at_least=50).class_probs(0.0).tolist()
    assert shares == pytest.approx([0.5, 0.25, 0.25])
    assert Oversample(LABELS, COUNTS, at_least=1).class_probs(0.0).tolist() == pytest.approx((COUNTS / 129).tolist())
    absent = Oversample(LABELS, torch.tensor([100, 25, 4, 0]), at_least=50).class_probs(0.0)
    assert absent[3] == 0


def test_large_classes_are_cut_to_a_ratio():
    """At most 2.5 times the four images of the smallest: 10, 10 and 4, the same ones all along."""
    sampler = Undersample(LABELS, COUNTS, seed=5, ratio=2.5)
    assert torch.bincount(LABELS[torch.from_numpy(sampler.kept)]).tolist() == [10, 10, 4]
    assert sampler.class_probs(0.0).tolist() == pytest.approx([10 / 24, 10 / 24, 4 / 24])
    everything = Undersample(LABELS, COUNTS, seed=5, ratio=25.0)
    assert sorted(everything.draw(np.random.default_rng(0), 0.0).tolist()) == list(range(129))


def test_reversed_shares_are_inverse_to_the_sizes():
    total = 1 / 100 + 1 / 25 + 1 / 4
    expected = [0.01 / total, 0.04 / total, 0.25 / total]
    assert Reversed(LABELS, COUNTS).class_probs(0.0).tolist() == pytest.approx(expected)


def test_progressive_balance_moves_from_the_sizes_to_equal_shares():
    sampler = ProgressivelyBalanced(LABELS, COUNTS)
    sizes = (COUNTS / 129).tolist()
    for progress in (0.0, 0.25, 1.0):
        expected = [(1 - progress) * size + progress / 3 for size in sizes]
        assert sampler.class_probs(progress).tolist() == pytest.approx(expected)
    draws = [torch.bincount(LABELS[sampler.draw(np.random.default_rng(0), p)], minlength=3) for p in (0.0, 1.0)]
    assert draws[0][2] < 20 < draws[1][2]  # means 4 and 43, deviations 2 and 5.4


def test_effective_number_runs_from_the_data_to_balance():
    assert ClassBalancedEffective(LABELS, COUNTS, beta=0.0).class_probs(0.0).tolist() == pytest.approx(
        (COUNTS / 129).tolist()
    )
    near_one = ClassBalancedEffective(LABELS, COUNTS, beta=1 - 1e-9).class_probs(0.0)
    assert near_one.tolist() == pytest.approx([1 / 3] * 3, rel=1e-5)
    beta = 0.99
    weights = [n * (1 - beta) / (1 - beta**n) for n in (100, 25, 4)]
    assert ClassBalancedEffective(LABELS, COUNTS, beta=beta).class_probs(0.0).tolist() == pytest.approx(
        [w / sum(weights) for w in weights]
    )


def test_undersampling_keeps_the_same_pictures_all_along():
    sampler = Undersample(LABELS, COUNTS, seed=5)
    seen = {i for e in range(20) for i in sampler.draw(np.random.default_rng(e), 0.0).tolist()}
    assert len(seen) == 12
    assert torch.bincount(LABELS[sorted(seen)]).tolist() == [4, 4, 4]
    drawn = sampler.draw(np.random.default_rng(0), 0.0)
    assert sorted(drawn[:12].tolist()) == sorted(drawn[12:24].tolist()) == sorted(seen)
    assert set(Undersample(LABELS, COUNTS, seed=6).kept) != seen


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SquareRoot(LABELS, COUNTS, power=-1.0), r"power must be >= 0, got -1\.0"),
        (lambda: Oversample(LABELS, COUNTS, at_least=-1), "at_least must be >= 0, got -1"),
        (lambda: Undersample(LABELS, COUNTS, 0, ratio=0.5), r"ratio must be >= 1, got 0\.5"),
        (lambda: ClassBalancedEffective(LABELS, COUNTS, beta=1.0), r"beta must lie in \[0, 1\), got 1\.0"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

import numpy as np
import pytest
import torch

from divaug.samplers.class_balanced_effective import ClassBalancedEffective
from divaug.samplers.oversample import Oversample
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
        (lambda: ClassBalancedEffective(LABELS, COUNTS, beta=1.0), r"beta must lie in \[0, 1\), got 1\.0"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

import math

import pytest
import torch
from torch.nn import functional as F

from divaug.base.labels import MixedLabels, mixed_loss
from divaug.losses.balanced_softmax import BalancedSoftmax
from divaug.losses.ce import CrossEntropy
from divaug.losses.class_weights import effective_number, inverse_frequency, no_weights
from divaug.losses.focal import Focal
from divaug.losses.ldam import LDAM
from divaug.losses.logit_adjusted import LogitAdjusted

COUNTS = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
LOGITS = torch.randn(7, 10, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([0, 9, 3, 3, 5, 1, 9])
CE = F.cross_entropy(LOGITS, IDS, reduction="none")


@pytest.mark.parametrize(
    "loss",
    [CrossEntropy(), Focal(gamma=0.0), LDAM(COUNTS, 30.0, max_m=0.0), LogitAdjusted(COUNTS, tau=0.0),
     BalancedSoftmax(torch.full((10,), 7))],
)  # fmt: skip
def test_neutral_settings_are_cross_entropy(loss):
    torch.testing.assert_close(loss(LOGITS, IDS), CE)


def test_focal_is_its_equation():
    p = torch.softmax(LOGITS.double(), 1)[torch.arange(7), IDS]
    torch.testing.assert_close(Focal(gamma=2.0)(LOGITS, IDS).double(), -((1 - p) ** 2) * p.log(), rtol=1e-5, atol=1e-6)


def test_class_weights_stay_out_of_focals_probability():
    weights = torch.linspace(0.1, 3, 10)
    rows = Focal(gamma=2.0)(LOGITS, IDS)
    ours = mixed_loss(Focal(gamma=2.0), LOGITS, MixedLabels.hard(IDS), weights)
    torch.testing.assert_close(ours, (weights[IDS] * rows).sum() / weights[IDS].sum())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_has_a_finite_gradient_for_sure_rows(gamma):
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    Focal(gamma=gamma)(logits, torch.tensor([0])).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_ldam_margins_are_the_published_ones():
    # CIFAR-10, exp, factor 100, max_m 0.5
    expected = [0.158, 0.180, 0.204, 0.232, 0.264, 0.300, 0.341, 0.387, 0.441, 0.500]
    assert (LDAM(COUNTS, 30.0).margins / 30).tolist() == pytest.approx(expected, abs=6e-4)


def test_ldam_equals_the_papers_form():
    cosines = torch.tanh(LOGITS)
    margins = COUNTS.double() ** -0.25
    margins = 0.5 * margins / margins.max()
    shifted = cosines.double() - torch.zeros(7, 10, dtype=torch.float64).scatter(1, IDS[:, None], margins[IDS][:, None])
    expected = F.cross_entropy(30 * shifted, IDS, reduction="none")
    torch.testing.assert_close(LDAM(COUNTS, 30.0)(30 * cosines, IDS).double(), expected, rtol=1e-5, atol=1e-5)


def test_balanced_softmax_is_its_equation_and_logit_adjustment_of_one():
    weighted = COUNTS.double() * LOGITS.double().exp()
    expected = -(weighted[torch.arange(7), IDS] / weighted.sum(1)).log()
    torch.testing.assert_close(BalancedSoftmax(COUNTS)(LOGITS, IDS).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(BalancedSoftmax(COUNTS)(LOGITS, IDS), LogitAdjusted(COUNTS)(LOGITS, IDS))


def test_logit_adjustment_is_its_equation():
    adjusted = LOGITS.double() + 1.7 * (COUNTS.double() / COUNTS.sum()).log()
    torch.testing.assert_close(
        LogitAdjusted(COUNTS, tau=1.7)(LOGITS, IDS).double(), F.cross_entropy(adjusted, IDS, reduction="none"),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Focal(gamma=-1.0), r"gamma must be >= 0, got -1\.0"),
        (lambda: LDAM(COUNTS, 30.0, max_m=-0.1), r"max_m must be >= 0, got -0\.1"),
        (lambda: LDAM(COUNTS, 0.0), r"head_scale must be > 0, got 0\.0"),
        (lambda: BalancedSoftmax(torch.tensor([3, 0])), r"classes \[1\] have no images"),
        (lambda: LogitAdjusted(torch.tensor([0, 3])), r"classes \[0\] have no images"),
        (lambda: LDAM(torch.tensor([0, 3]), 30.0), r"classes \[0\] have no images"),
        (lambda: inverse_frequency(torch.tensor([1, 0])), r"classes \[1\] have no images"),
        (lambda: inverse_frequency(COUNTS, power=-1.0), r"power must be >= 0"),
        (lambda: effective_number(COUNTS, beta=1.0), r"beta must lie in \[0, 1\)"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_effective_number_weights_are_the_published_ones():
    # DRW of LDAM-DRW on CIFAR-10, exp, factor 100: beta 0.9999, summing to C
    expected = [0.051, 0.077, 0.121, 0.195, 0.319, 0.525, 0.868, 1.443, 2.409, 3.993]
    weights = effective_number(COUNTS)
    assert weights.tolist() == pytest.approx(expected, abs=6e-4)
    assert weights.sum().item() == pytest.approx(10)
    assert effective_number(COUNTS, beta=0.0).tolist() == pytest.approx([1.0] * 10)


def test_inverse_frequency_weights():
    weights = inverse_frequency(COUNTS)
    assert (weights * COUNTS).std().item() == pytest.approx(0, abs=1e-2)
    assert weights.sum().item() == pytest.approx(10)
    assert inverse_frequency(COUNTS, power=0.0).tolist() == pytest.approx([1.0] * 10)
    assert no_weights(COUNTS) is None
    assert math.isclose((weights[9] / weights[0]).item(), 100, rel_tol=1e-5)

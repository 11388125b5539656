import math

import pytest
import torch
from torch.nn import functional as F

from divaug.base.labels import MixedLabels, mixed_loss
from divaug.losses.balanced_softmax import BalancedSoftmax
from divaug.losses.ce import CrossEntropy
from divaug.losses.class_weights import effective_number, inverse_frequency, no_weights
from divaug.losses.cost_matrix import CostMatrix
from divaug.losses.focal import Focal
from divaug.losses.l2_svm import L2SVM
from divaug.losses.label_aware_smoothing import LabelAwareSmoothing
from divaug.losses.label_smoothing import LabelSmoothing
from divaug.losses.ldam import LDAM
from divaug.losses.logit_adjusted import LogitAdjusted
from divaug.losses.vs import VectorScaling

COUNTS = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
LOGITS = torch.randn(7, 10, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([0, 9, 3, 3, 5, 1, 9])
CE = F.cross_entropy(LOGITS, IDS, reduction="none")


@pytest.mark.parametrize(
    "loss",
    [CrossEntropy(), Focal(gamma=0.0), LDAM(COUNTS, 30.0, max_m=0.0), LogitAdjusted(COUNTS, tau=0.0),
     BalancedSoftmax(torch.full((10,), 7)), LabelSmoothing(smoothing=0.0), LabelAwareSmoothing(COUNTS, head=0.0),
     VectorScaling(COUNTS, gamma=0.0, tau=0.0), CostMatrix(COUNTS, costs=torch.zeros(10, 10).tolist())],
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
        (lambda: LabelSmoothing(smoothing=1.0), r"smoothing must lie in \[0, 1\), got 1\.0"),
        (lambda: LabelAwareSmoothing(COUNTS, head=0.1, tail=0.2), "got tail 0.2 and head 0.1"),
        (lambda: LabelAwareSmoothing(COUNTS, shape="step"), "shape must be one of concave, linear, convex"),
        (lambda: VectorScaling(COUNTS, gamma=-0.1), r"gamma must be >= 0, got -0\.1"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "loss", [LDAM(COUNTS, 30.0), LabelAwareSmoothing(COUNTS), CostMatrix(COUNTS), CostMatrix(COUNTS[:3])]
)
def test_other_numbers_of_logits_than_classes_are_refused(loss):
    for width in (1, 2, 12):
        with pytest.raises(ValueError, match=rf"counts of \d+ classes, but there are {width} logits"):
            loss(torch.zeros(4, width), torch.zeros(4, dtype=torch.int64))


def test_classes_without_images_have_no_weight_at_power_0_either():
    for power in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"classes \[1\] have no images"):
            inverse_frequency(torch.tensor([50, 0, 5]), power=power)


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


def test_label_smoothing_is_a_blend_of_the_label_and_all_classes():
    log_p = torch.log_softmax(LOGITS.double(), 1)
    expected = -0.8 * log_p[torch.arange(7), IDS] - 0.2 * log_p.mean(1)
    torch.testing.assert_close(LabelSmoothing(smoothing=0.2)(LOGITS, IDS).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "middle"),
    [("concave", math.sin(0.25 * math.pi)), ("linear", 0.5), ("convex", 1 + math.sin(1.75 * math.pi))],
)
def test_label_aware_smoothing_is_its_equations(shape, middle):
    """The paper's eq. 3 to 5 at the largest, the smallest and a class half way; eq. 2 for the rows."""
    counts = torch.tensor([101, 51, 1])
    loss = LabelAwareSmoothing(counts, head=0.4, tail=0.1, shape=shape)
    share = [0.4, 0.1 + 0.3 * middle, 0.1]
    assert loss.smoothing.tolist() == pytest.approx(share, abs=1e-6)
    logits, ids = LOGITS[:3, :3], torch.tensor([0, 1, 2])
    log_p = torch.log_softmax(logits.double(), 1)
    for row, (e, value) in enumerate(zip(share, loss(logits, ids).tolist(), strict=True)):
        target = torch.full((3,), e / 2, dtype=torch.float64)
        target[row] = 1 - e
        assert value == pytest.approx(-(target * log_p[row]).sum().item(), rel=1e-5)


def test_label_aware_smoothing_of_equal_classes_leaves_the_labels_as_they_are():
    torch.testing.assert_close(LabelAwareSmoothing(torch.full((10,), 7))(LOGITS, IDS), CE)


def test_vector_scaling_is_its_equation_and_covers_logit_adjustment():
    share = COUNTS.double() / COUNTS.max()
    z = share**0.3 * LOGITS.double() + 1.7 * (COUNTS.double() / COUNTS.sum()).log()
    expected = z.logsumexp(1) - z[torch.arange(7), IDS]
    ours = VectorScaling(COUNTS, gamma=0.3, tau=1.7)(LOGITS, IDS).double()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    adjusted = VectorScaling(COUNTS, gamma=0.0, tau=1.7)(LOGITS, IDS)
    torch.testing.assert_close(adjusted, LogitAdjusted(COUNTS, tau=1.7)(LOGITS, IDS))


def test_the_squared_hinge_is_scikit_learns():
    """scikit-learn's squared hinge of a linear SVM, one class against the rest, summed over classes."""
    from sklearn.metrics import hinge_loss

    rows = L2SVM()(LOGITS, IDS)
    for row in range(7):
        total = 0.0
        for c in range(10):
            sign = 1 if IDS[row] == c else -1  # beside it a sample without loss: both signs must occur
            total += (2 * hinge_loss([sign, -sign], [float(LOGITS[row, c]), -5.0 * sign])) ** 2
        assert rows[row].item() == pytest.approx(total, rel=1e-5)


def test_softmax_margin_is_its_equation_and_bounds_the_expected_cost():
    costs = torch.rand(10, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 4
    costs.fill_diagonal_(0)
    loss = CostMatrix(COUNTS, costs=costs.tolist())
    rows, z = loss(LOGITS, IDS).double(), LOGITS.double()
    for row, label in enumerate(IDS.tolist()):
        wanted = (z[row] + costs[label]).exp().sum().log() - z[row, label]
        assert rows[row].item() == pytest.approx(wanted.item(), rel=1e-5)
        assert rows[row] >= (torch.softmax(z[row], 0) * costs[label]).sum()
    everywhere = CostMatrix(COUNTS)(LOGITS, IDS).double()
    z = z + 1 - torch.nn.functional.one_hot(IDS, 10)
    torch.testing.assert_close(everywhere, F.cross_entropy(z, IDS, reduction="none"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ([[0.0, 1.0]], "costs must have 10 rows of 10 numbers"),
        ([[1.0] * 10] * 10, "0 on the diagonal"),
        ((-1 + torch.eye(10)).tolist(), "costs must be >= 0"),
    ],
)
def test_costs_that_make_no_sense_are_refused(costs, said):
    with pytest.raises(ValueError, match=said):
        CostMatrix(COUNTS, costs=costs)

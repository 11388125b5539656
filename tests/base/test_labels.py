import numpy as np
import pytest
import torch
from torch.nn import functional as F

from divaug.base.groups import count_classes, rank_groups, shot_groups
from divaug.base.labels import MixedLabels, mixed_loss
from divaug.losses.ce import CrossEntropy

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.5])


def test_hard_labels_give_torchs_weighted_cross_entropy():
    ours = mixed_loss(CrossEntropy(), LOGITS, MixedLabels.hard(LABELS), WEIGHTS)
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, LABELS, weight=WEIGHTS))
    nothing = mixed_loss(CrossEntropy(), LOGITS, MixedLabels.hard(LABELS), torch.zeros(4))
    assert nothing == 0  # not NaN, where all classes of a batch have weight 0
    plain = mixed_loss(CrossEntropy(), LOGITS, MixedLabels.hard(LABELS))
    torch.testing.assert_close(plain, F.cross_entropy(LOGITS, LABELS))


def test_mixed_loss_is_the_weighted_mean_over_rows_and_labels():
    ids = torch.stack([LABELS, LABELS.flip(0)], dim=1)
    lam = torch.tensor([1.0, 0.3, 0.5, 0.9, 0.0, 0.25])
    target = MixedLabels(ids, torch.stack([lam, 1 - lam], dim=1))
    rows = torch.log_softmax(LOGITS, 1)
    total = norm = 0.0
    for b in range(6):
        for k in range(2):
            scale = target.weights[b, k].item() * WEIGHTS[ids[b, k]].item()
            total += scale * -rows[b, ids[b, k]].item()
            norm += scale
    assert mixed_loss(CrossEntropy(), LOGITS, target, WEIGHTS).item() == pytest.approx(total / norm, rel=1e-5)


def test_class_weights_do_not_change_the_scale_of_the_loss():
    target = MixedLabels(torch.stack([LABELS, LABELS.flip(0)], 1), torch.full((6, 2), 0.5))
    once = mixed_loss(CrossEntropy(), LOGITS, target, WEIGHTS)
    torch.testing.assert_close(mixed_loss(CrossEntropy(), LOGITS, target, 100 * WEIGHTS), once)


def test_dominant_mass_and_mixedness():
    target = MixedLabels(
        torch.tensor([[0, 1], [2, 1], [3, 3], [1, 0]]),
        torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.6, 0.4], [1.0, 0.0]]),
    )
    assert target.dominant().tolist() == [0, 1, 3, 1]  # ties go to the first
    assert target.is_mixed().tolist() == [
        True,
        True,
        True,
        False,
    ]  # two of one class are mixed, weight 0 is not
    told = MixedLabels(target.ids, target.weights, torch.tensor([False, False, False, True]))
    assert told.is_mixed().tolist() == [False, False, False, True]
    assert not MixedLabels.hard(LABELS).is_mixed().any()
    torch.testing.assert_close(target.mass(4), torch.tensor([0.5, 2.3, 0.2, 1.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("counts", "head", "mid", "tail"),
    [
        ([50, 40, 30, 20, 10, 9, 8, 7, 6, 5], [0, 1, 2, 3], [4, 5, 6], [7, 8, 9]),
        ([5, 100], [1], [], [0]),
        ([1, 2, 3], [2], [1], [0]),
        ([7, 7, 7, 7], [0, 1], [2], [3]),  # ties by class index
    ],
)
def test_rank_groups_are_terciles(counts, head, mid, tail):
    groups = rank_groups(np.array(counts))
    assert [groups[name].tolist() for name in ("head", "mid", "tail")] == [head, mid, tail]


def test_shot_groups_and_counts():
    groups = shot_groups(np.array([101, 100, 20, 19]))
    assert [g.tolist() for g in groups.values()] == [[0], [1, 2], [3]]
    assert count_classes(np.array([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]

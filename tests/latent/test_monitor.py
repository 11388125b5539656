from types import SimpleNamespace

import numpy as np
import pytest
import torch

from divaug.base.labels import MixedLabels
from divaug.latent.counts import TopKCounts
from divaug.latent.monitor import TopKMonitor
from divaug.models.heads import CosineHead, LinearHead

GENERATOR = torch.Generator().manual_seed(0)
Z = torch.rand(40, 8, generator=GENERATOR)
LABELS = torch.randint(0, 3, (40,), generator=GENERATOR)
HEAD = LinearHead(8, 4)  # class 3 never occurs
PLAIN_HEAD = torch.nn.Linear(8, 4)


def counted(monitor, kind):
    """The counts of plain or of mixed rows: classes 0 to C - 1, or C to 2 C - 1."""
    counts, rows = monitor.counts, slice(0, 4) if kind == "plain" else slice(4, 8)
    named = {name: getattr(counts, name)[rows] for name in ("n", "sums", "lowest", "highest")}
    return SimpleNamespace(incidence=counts.incidence[:, rows], **named)


def monitor(**kwargs):
    return TopKMonitor(4, 8, k=3, sizes=(2, 5), **kwargs)


def slow(z, labels, weight, k):
    incidence, sums = np.zeros((4, 8), int), np.zeros((4, 8))
    for row, c in zip(z.numpy(), labels.tolist(), strict=True):
        ce = row * weight[c]
        for d in sorted(range(8), key=lambda d: (-ce[d], d))[:k]:
            incidence[c, d] += ce[d] > 0
        sums[c] += ce
    return incidence, sums


def test_counts_against_a_slow_loop():
    ours = monitor()
    for part in torch.arange(40).split(7):
        ours.update(Z[part], MixedLabels.hard(LABELS[part]), HEAD)
    incidence, sums = slow(Z, LABELS, HEAD.weight.detach().numpy(), 3)
    counts = counted(ours, "plain")
    assert (counts.incidence[0].numpy() == incidence).all()
    assert counts.n.tolist() == torch.bincount(LABELS, minlength=4).tolist()
    np.testing.assert_allclose(counts.sums.numpy(), sums, rtol=1e-5)
    values = ours.compute()
    assert values["number"][:3].tolist() == (incidence[:3] > 0).sum(1).tolist()
    top = np.sort(sums[0] / counts.n[0].item())[::-1][:3].mean()
    assert values["magnitude"][0] == pytest.approx(top, rel=1e-5)
    assert "number_mixed" not in values


def test_classes_without_pictures_are_nan():
    ours = monitor()
    ours.update(Z, MixedLabels.hard(LABELS), HEAD)
    values = ours.compute()
    assert set(values) == {"n", "number", "effective", "magnitude", "rarefied_2", "rarefied_5"}
    assert all(np.isnan(v[3]) for name, v in values.items() if name != "n") and values["n"][3] == 0
    assert all(v.dtype == np.float64 and v.shape == (4,) for v in values.values())


def test_parts_merge_to_the_whole_in_any_order():
    whole, a, b = monitor(), monitor(), monitor()
    whole.update(Z, MixedLabels.hard(LABELS), HEAD)
    a.update(Z[:13], MixedLabels.hard(LABELS[:13]), HEAD)
    b.update(Z[13:], MixedLabels.hard(LABELS[13:]), HEAD)
    b.merge(a)
    for name, value in whole.compute().items():
        np.testing.assert_allclose(b.compute()[name], value, rtol=1e-6)
    b.reset()
    assert b.compute()["n"].sum() == 0


def test_state_is_restored():
    ours, again = monitor(), monitor()
    ours.update(Z, MixedLabels.hard(LABELS), HEAD)
    again.load_state_dict(ours.state_dict())
    ours.reset()
    assert again.compute()["n"].sum() == 40


def test_mixed_rows_count_to_their_largest_label_apart_from_plain_ones():
    ids = torch.stack([LABELS, (LABELS + 1) % 3], 1)
    kept = torch.linspace(0, 1, 40)
    kept[-1] = 1.0
    ours = monitor()
    ours.update(Z, MixedLabels(ids, torch.stack([kept, 1 - kept], 1)), HEAD)
    mixed = (kept > 0) & (kept < 1)
    dominant = torch.where(kept >= 0.5, LABELS, (LABELS + 1) % 3)
    assert counted(ours, "mixed").n.tolist() == torch.bincount(dominant[mixed], minlength=4).tolist()
    assert counted(ours, "plain").n.tolist() == torch.bincount(dominant[~mixed], minlength=4).tolist()
    assert "number_mixed" in ours.compute()


def test_a_cosine_heads_embedding_is_of_normalised_factors():
    head = CosineHead(8, 4)
    ours = monitor()
    ours.update(Z, MixedLabels.hard(LABELS), head)
    cosines = (head(Z) / 30).detach()[torch.arange(40), LABELS]
    per_class = torch.zeros(4, dtype=torch.float64).index_add_(0, LABELS, cosines.double())
    torch.testing.assert_close(counted(ours, "plain").sums.sum(1), per_class, rtol=1e-4, atol=1e-5)


def test_it_works_on_any_linear_layer_and_touches_nothing(global_rngs_untouched):
    head = PLAIN_HEAD
    before = head.weight.clone()
    z = Z.clone().requires_grad_()
    monitor().update(z, MixedLabels.hard(LABELS), head)
    assert torch.equal(before, head.weight) and z.grad is None and head.weight.grad is None


def test_bad_values_are_named():
    with pytest.raises(ValueError, match="top-k must lie in 1 to D = 8, got 9"):
        TopKMonitor(4, 8, k=9)
    with pytest.raises(ValueError, match=r"cannot merge K=\[2\]"):
        TopKCounts(4, 8, [3]).merge(TopKCounts(4, 8, [2]))
    with pytest.raises(ValueError, match="different sizes, at least one"):
        TopKCounts(4, 8, [3, 3])
    with pytest.raises(ValueError, match=r"counts K=\[3\], this monitor K=\[2, 5\]"):
        TopKCounts(4, 8, [2, 5]).load_state_dict(TopKCounts(4, 8, [3]).state_dict())


def test_several_k_at_once_are_what_each_alone_counts():
    both = TopKMonitor(4, 8, k=(3, 5, 1), sizes=(2,))
    for part in torch.arange(40).split(7):
        both.update(Z[part], MixedLabels.hard(LABELS[part]), HEAD)
    values = both.compute()
    for k in (3, 5, 1):
        alone = TopKMonitor(4, 8, k=k, sizes=(2,))
        alone.update(Z, MixedLabels.hard(LABELS), HEAD)
        suffix = "" if k == 3 else f"_top{k}"
        for name in ("number", "effective", "magnitude", "rarefied_2"):
            np.testing.assert_allclose(values[name + suffix], alone.compute()[name], rtol=1e-6)


def test_ranges_and_counts_merge_exactly_and_are_restored():
    whole, parts = TopKMonitor(4, 8, k=(3, 2)), [TopKMonitor(4, 8, k=(3, 2)) for _ in range(3)]
    for rank, part in enumerate(torch.arange(40).chunk(3)):
        whole.update(Z[part], MixedLabels.hard(LABELS[part]), HEAD)
        parts[rank].update(Z[part], MixedLabels.hard(LABELS[part]), HEAD)
    merged = TopKMonitor(4, 8, k=(3, 2))
    merged.load_state_dict(parts[2].state_dict())
    for part in parts[:2]:
        merged.merge(part)
    for name in ("incidence", "n", "lowest", "highest"):
        assert torch.equal(getattr(counted(merged, "plain"), name), getattr(counted(whole, "plain"), name))
    torch.testing.assert_close(counted(merged, "plain").sums, counted(whole, "plain").sums)
    ce = Z * HEAD.weight.detach()[LABELS]
    for c in range(3):
        assert torch.equal(counted(whole, "plain").highest[c], ce[c == LABELS].amax(0).double())
        assert torch.equal(counted(whole, "plain").lowest[c], ce[c == LABELS].amin(0).double())
    assert counted(whole, "plain").highest[3].eq(-torch.inf).all()


def test_in_an_encoders_space_the_sets_are_of_features():
    ours = monitor()
    ours.update(Z, MixedLabels.hard(LABELS), None)
    incidence = np.zeros((4, 8), int)
    for row, c in zip(Z.tolist(), LABELS.tolist(), strict=True):
        for d in sorted(range(8), key=lambda d: (-row[d], d))[:3]:
            incidence[c, d] += row[d] > 0
    assert (counted(ours, "plain").incidence[0].numpy() == incidence).all()

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from divaug.latent.instances import fixed_top_k
from divaug.latent.topk import classification_embeddings, top_k_sets

from .golden import CE_PRED, LOGITS, PRED, TP, B, F, W


def ce_of(classes):
    return classification_embeddings(torch.from_numpy(F), torch.from_numpy(W), torch.from_numpy(classes)).numpy()


def sets(values, k):
    return [torch.nonzero(row)[:, 0].tolist() for row in top_k_sets(torch.from_numpy(values), k)]


def test_golden_embeddings():
    assert pytest.approx(LOGITS) == F @ W.T + B
    assert ce_of(PRED) == pytest.approx(CE_PRED)
    for c in range(3):
        assert ce_of(np.full(6, c)).sum(1) + B[c] == pytest.approx(LOGITS[:, c])


def test_golden_fixed_sets_drop_zeros():
    assert sets(CE_PRED[TP[2]], 2) == [[3]]  # a plain top-2 would add the unused feature 0
    assert sets(CE_PRED[TP[1]], 2) == [[1, 3]]
    assert sets(np.array([[1.0, 1.0, 0.0, 1.0]]), 2) == [[0, 1]]  # ties to the lower index
    assert sets(np.array([[-1.0, -2.0, 0.0]]), 3) == [[]]


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_one_to_d_is_refused(k):
    with pytest.raises(ValueError, match=f"k must lie in 1 to D = 4, got {k}"):
        top_k_sets(torch.ones(2, 4), k)


@settings(max_examples=80, deadline=None)
@given(arrays(np.float64, (5, 6), elements=st.floats(-3, 3, width=16)), st.integers(1, 6))
def test_tensors_and_arrays_agree_with_a_slow_loop(values, k):
    masks = fixed_top_k(values, k)
    for row, found, mask in zip(values, sets(values, k), masks, strict=True):
        order = sorted(range(6), key=lambda d: (-row[d], d))[:k]
        assert found == sorted(d for d in order if row[d] > 0) == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(("rows", "d", "k"), [(400, 64, 10), (50, 2048, 10), (400, 8, 8), (400, 64, 1)])
def test_a_threshold_gives_the_sets_of_a_stable_sort(rows, d, k):
    """In bfloat16 many values are equal."""
    torch.manual_seed(d)
    values = torch.randn(rows, d).bfloat16().float().round(decimals=1)
    values[torch.rand(rows, d) < 0.02] = torch.inf
    ordered, order = torch.sort(values, dim=1, descending=True, stable=True)
    wanted = torch.zeros(rows, d, dtype=torch.bool).scatter_(1, order[:, :k], ordered[:, :k] > 0)
    assert torch.equal(top_k_sets(values, k), wanted)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from divaug.latent.statistics import class_magnitude, class_top_k, effective_number
from divaug.latent.topk import adaptive_top_k, classification_embeddings, top_k_incidence

# A problem of six pictures, three classes and four features, worked out by hand.
W = np.array([[1, -0.5, 2, 0], [-1, 1.5, 0.5, 1], [0.5, 0.5, -1, 2.0]])
B = np.array([0.1, -0.2, 0.0])
F = np.array([[2, 0, 1, 0], [1, 1, 1, 0], [0, 2, 0, 1], [0.5, 1, 0, 0.5], [0, 0, 0, 2], [1, 0, 1, 0.0]])
LOGITS = np.array([[4.1, -1.7, 0], [2.6, 0.8, 0], [-0.9, 3.8, 3], [0.1, 1.3, 1.75], [0.1, 1.8, 4], [3.1, -0.7, -0.5]])
PRED = np.array([0, 0, 1, 2, 2, 0])
CE_PRED = np.array([[2, 0, 2, 0], [1, -0.5, 2, 0], [0, 3, 0, 1], [0.25, 0.5, 0, 1], [0, 0, 0, 4], [1, 0, 2, 0.0]])
RUNNER_UP = np.array([0, 0.8, 3, 1.3, 1.8, -0.5])
TP = [[0, 1], [2], [4]]


def ce_of(classes):
    return classification_embeddings(torch.from_numpy(F), torch.from_numpy(W), torch.from_numpy(classes)).numpy()


def sets(values, k):
    features, belongs = top_k_incidence(torch.from_numpy(values), k)
    return [sorted(f[b].tolist()) for f, b in zip(features, belongs, strict=True)]


def test_golden_logits_and_embeddings():
    assert pytest.approx(LOGITS) == F @ W.T + B
    assert ce_of(PRED) == pytest.approx(CE_PRED)
    for c in range(3):
        assert ce_of(np.full(6, c)).sum(1) + B[c] == pytest.approx(LOGITS[:, c])


def test_golden_adaptive_sets():
    found = adaptive_top_k(CE_PRED, B[PRED], RUNNER_UP)
    assert [s.tolist() for s in found] == [[], [2], [1, 3], [3, 1], [3], []]
    frequency = np.zeros((3, 4))
    for c, rows in enumerate(TP):
        for i in rows:
            frequency[c, found[i]] += 1 / len(rows)
    assert frequency.tolist() == [[0, 0, 0.5, 0], [0, 1, 0, 1], [0, 0, 0, 1]]
    assert effective_number(frequency).tolist() == pytest.approx([1, 2, 1])


def test_golden_fixed_sets_drop_zeros():
    assert sets(CE_PRED[TP[2]], 2) == [[3]]  # a plain top-2 would add the unused feature 0
    assert sets(CE_PRED[TP[1]], 2) == [[1, 3]]
    assert sets(np.array([[1.0, 1.0, 0.0, 1.0]]), 2) == [[0, 1]]  # ties to the lower index
    assert sets(np.array([[-1.0, -2.0, 0.0]]), 3) == [[]]


def test_golden_class_top_k_and_magnitude():
    means = np.array([ce_of(np.full(6, c))[rows].mean(0) for c, rows in enumerate(TP)])
    assert means.tolist() == [[1.5, -0.25, 2, 0], [0, 3, 0, 1], [0, 0, 0, 4]]
    assert class_top_k(means, 2)[:2].tolist() == [[2, 0], [1, 3]]
    assert class_magnitude(means, 2).tolist() == [1.75, 2.0, 2.0]
    shares = [m[class_top_k(m, 1)].sum() / m[m > 0].sum() for m in means]
    assert shares == pytest.approx([0.5714, 0.75, 1.0], abs=1e-4)


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_one_to_d_is_refused(k):
    with pytest.raises(ValueError, match=f"k must lie in 1 to D = 4, got {k}"):
        top_k_incidence(torch.ones(2, 4), k)


values = arrays(np.float64, (5, 6), elements=st.floats(-3, 3, width=16))


@settings(max_examples=80, deadline=None)
@given(values, st.integers(1, 6))
def test_incidence_against_a_slow_loop(values, k):
    for row, found in zip(values, sets(values, k), strict=True):
        order = sorted(range(6), key=lambda d: (-row[d], d))[:k]
        assert found == sorted(d for d in order if row[d] > 0)


@settings(max_examples=80, deadline=None)
@given(
    arrays(np.float64, (7, 5), elements=st.floats(0, 3, width=16)),
    arrays(np.float64, (3, 5), elements=st.floats(-2, 2, width=16)),
    arrays(np.float64, 3, elements=st.floats(-1, 1, width=16)),
    st.floats(0.5, 4),
)
def test_adaptive_sets_against_a_slow_loop_and_scaling(features, weight, bias, scale):
    logits = features @ weight.T + bias
    pred, runner = logits.argmax(1), np.sort(logits, 1)[:, -2]
    ce = features * weight[pred]
    found = adaptive_top_k(ce, bias[pred], runner)
    for i, got in enumerate(found):
        order = np.argsort(-ce[i], kind="stable")
        start, k = bias[pred[i]] + ce[i][ce[i] < 0].sum(), 0
        total = start
        while total < runner[i] - 1e-6 and k < 5:
            total += ce[i][order[k]]
            k += 1
        assert got.tolist() == order[:k].tolist()
        # non-negative FE: a contribution is positive only where the weight is
        assert all(weight[pred[i], d] > 0 for d in got)
    rescaled = adaptive_top_k(scale * ce, scale * bias[pred], scale * runner)
    margins = np.abs(np.diff(np.sort(logits, 1)[:, -2:], axis=1))[:, 0]
    for i, (a, b) in enumerate(zip(found, rescaled, strict=True)):
        if margins[i] > 0.01:  # the tolerance of 1e-6 decides only near ties
            assert abs(len(a) - len(b)) <= 1


def test_statistics_do_not_care_how_features_are_numbered():
    rng = np.random.default_rng(0)
    frequency, order = rng.integers(0, 9, (3, 8)).astype(float), rng.permutation(8)
    assert effective_number(frequency) == pytest.approx(effective_number(frequency[:, order]))
    means = rng.normal(size=(3, 8))
    assert class_magnitude(means, 3) == pytest.approx(class_magnitude(means[:, order], 3))


def test_effective_number_runs_from_one_to_d():
    assert effective_number(np.array([[0.0, 7, 0]])).tolist() == [1.0]
    assert effective_number(np.full((1, 5), 3.0))[0] == pytest.approx(5)
    assert np.isnan(effective_number(np.zeros((1, 5)))[0])

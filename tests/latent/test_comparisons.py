"""Comparing networks: alignment of features, change of heads, and the nulls that go with both."""

import numpy as np
import pytest

from divaug.latent.alignment import align, aligned_overlap
from divaug.latent.head_change import weight_change, weight_norms
from divaug.latent.nulls import Null, pairwise, random_head, shuffled_labels
from divaug.latent.sets import chance_overlap, overlap
from divaug.latent.statistics import class_statistics

from .golden import bundle, random_bundle


def test_golden_weight_change():
    found = weight_change(np.array([[1, -2, 0.5]]), np.array([[1.5, -1, -0.5]]))
    assert found == pytest.approx({"mean": 1.0, "median": 0.5, "l1": 2.5 / 3.5})
    assert found["l1"] == pytest.approx(0.7143, abs=1e-4)


def test_the_mean_of_ratios_is_ruled_by_weights_near_zero():
    base = np.ones((10, 64))
    base[0, 0] = 1e-6
    found = weight_change(base, base + 0.1)
    assert found["mean"] > 100 and found["median"] == pytest.approx(0.1) and found["l1"] == pytest.approx(0.1, rel=0.01)
    assert np.isfinite(weight_change(np.array([[0.0, 1]]), np.array([[1.0, 1]]))["mean"])
    with pytest.raises(ValueError, match="heads of one shape"):
        weight_change(base, base[:, :3])


def test_weight_norms():
    assert weight_norms(np.array([[3.0, 4], [0, 0]])).tolist() == [5, 0]


def test_a_permutation_of_features_is_found_and_undone():
    first = np.abs(np.random.default_rng(0).normal(size=(200, 12)))
    order = np.random.default_rng(1).permutation(12)
    second = 3 * first[:, order] + 1  # the same features, renumbered, on another scale
    found = align(first, second)
    assert order[found.partner].tolist() == list(range(12)) and found.correlation == pytest.approx(1)


def test_index_identity_across_networks_is_chance_without_alignment():
    first = random_bundle(0, n=300, d=40)
    rng, raw, aligned = np.random.default_rng(0), [], []
    for _ in range(30):
        order = rng.permutation(40)
        top = class_statistics(first, 0).top()
        renumbered = np.argsort(order)[top]  # the same features under the second network's numbers
        raw.append(overlap(top, renumbered))
        aligned.append(aligned_overlap(align(first.features, first.features[:, order]), top, renumbered))
    assert np.mean(raw) == pytest.approx(chance_overlap(10, 40), abs=4 * np.std(raw) / np.sqrt(30))
    assert np.mean(aligned) == 1


def test_features_that_never_vary_correlate_with_nothing():
    first = np.abs(np.random.default_rng(0).normal(size=(50, 4)))
    dead = first.copy()
    dead[:, 2] = 0
    found = align(first, dead)
    assert found.partner.tolist() == [0, 1, 2, 3] and found.correlation == pytest.approx([1, 1, 0, 1])
    with pytest.raises(ValueError, match="FE of one shape"):
        align(first, dead[:10])
    with pytest.raises(ValueError, match="two sets"):
        aligned_overlap(found, np.array([0]), np.array([], dtype=int))


def test_pairwise_null():
    bundles = [random_bundle(seed) for seed in range(4)]
    found = pairwise(bundles, lambda a, b: weight_change(a.weight, b.weight)["l1"])
    values = [weight_change(bundles[i].weight, bundles[j].weight)["l1"] for i in range(4) for j in range(i + 1, 4)]
    assert found.n == 6 and found.mean == pytest.approx(np.mean(values)) and found.low >= min(values)
    assert Null.of([float("nan")]).n == 0 and np.isnan(Null.of([]).mean)


def test_shuffled_labels_keep_sizes_and_touch_only_the_chosen_classes():
    ours = random_bundle(counts=[40, 30, 20, 10, 8, 6], c=6)
    shuffled = shuffled_labels(ours, np.random.default_rng(0))
    assert shuffled.counts.tolist() == ours.counts.tolist() and shuffled.terciles == ours.terciles
    head = np.isin(ours.labels, [0, 1, 2, 3])
    assert (shuffled.labels[head] == ours.labels[head]).all() and (shuffled.labels != ours.labels).any()
    every = shuffled_labels(ours, np.random.default_rng(0), classes=range(6))
    assert (every.labels[head] != ours.labels[head]).any()


@pytest.mark.parametrize("cosine", [False, True])
def test_a_random_head_is_a_verified_head_of_the_same_scale(cosine):
    ours = random_bundle(n=100, d=64, cosine=cosine)
    found = random_head(ours, np.random.default_rng(0)).verify()
    assert found.weight.std() == pytest.approx(ours.weight.std(), rel=0.2) and (found.weight != ours.weight).all()
    with pytest.raises(ValueError, match="no head"):
        random_head(bundle(weight=None, bias=None, logits=None), np.random.default_rng(0))

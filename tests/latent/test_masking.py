import numpy as np
import pytest

from divaug.latent.masking import alike_in_magnitude, masked_recall, recall_lost

from .golden import B, F, W, bundle, random_bundle


def test_masked_features_count_for_nothing():
    nothing = np.empty(0, dtype=np.int64)
    assert masked_recall(bundle(), 0, nothing) == 1.0 and masked_recall(bundle(), 1, nothing) == 0.5
    for mask in ([2], [0, 2], [1, 3], [0, 1, 2, 3]):
        bare = F.copy()
        bare[:, mask] = 0
        predicted = (bare @ W.T + B).argmax(1)
        for c, rows in enumerate(([0, 1], [2, 3], [4, 5])):
            assert masked_recall(bundle(), c, np.array(mask)) == (predicted[rows] == c).mean()


def test_with_a_cosine_head_contributions_are_taken_out_and_norms_stay():
    ours = random_bundle(cosine=True)
    mask = np.array([0, 3])
    unit = ours.features / np.linalg.norm(ours.features, axis=1, keepdims=True)
    weight = ours.weight / np.linalg.norm(ours.weight, axis=1, keepdims=True)
    unit[:, mask] = 0
    predicted = (unit @ weight.T).argmax(1)
    for c in range(4):
        assert masked_recall(ours, c, mask) == (predicted[ours.labels == c] == c).mean()


def test_matched_features_are_others_of_the_nearest_size():
    mean = np.array([5.0, 4.9, 1.0, 0.9, 3.0, 0.0])
    assert alike_in_magnitude(mean, np.array([0, 2])).tolist() == [1, 3]
    assert alike_in_magnitude(mean, np.array([2, 0, 4, 1])).tolist() == [3, 5]  # two are left for four


def test_what_carries_a_class_costs_it_most():
    train, test = random_bundle(1, n=400, d=30), random_bundle(1, n=400, d=30)
    for c in range(4):
        lost = recall_lost(train, test, c, (3, 10), np.random.default_rng(0))
        assert lost[10]["top"] > lost[10]["matched"] and lost[10]["top"] > lost[10]["random"]
        assert lost[10]["top"] >= lost[3]["top"]


def test_random_features_cost_their_mean():
    train, test = random_bundle(1, n=200), random_bundle(2, n=200)
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    found = recall_lost(train, test, 0, (4,), rng, draws=7)[4]["random"]
    whole = (test.predictions[test.labels == 0] == 0).mean()
    assert found == pytest.approx(
        whole - np.mean([masked_recall(test, 0, again.choice(12, 4, replace=False)) for _ in range(7)])
    )


def test_a_class_without_pictures_is_undefined():
    assert np.isnan(
        recall_lost(random_bundle(counts=[9, 9, 9, 0]), random_bundle(), 3, (2,), np.random.default_rng(0))[2]["top"]
    )

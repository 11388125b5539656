import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from divaug.latent.sets import chance_overlap, jaccard, overlap, rank_biased_overlap
from divaug.latent.statistics import (
    class_magnitude,
    class_statistics,
    class_top_k,
    density_ratio,
    effective_number,
    participation_ratio,
    top_share,
)

from .golden import bundle, random_bundle

COUNTS = np.array([7, 3, 1, 0, 1, 2, 0, 5, 1, 2])


def test_golden_class_statistics():
    # magnitude, top-2 and adaptive frequencies of the recognised images of each class, by hand
    expected = [
        ([1.5, -0.25, 2, 0], [2, 0], [0, 0, 0.5, 0], 0.5, 1, 1),
        ([0, 3, 0, 1], [1, 3], [0, 1, 0, 1], 2, 2, 2),
        ([0, 0, 0, 4], [3, 0], [0, 0, 0, 1], 1, 1, 1),
    ]
    for c, (magnitude, top, frequency, per_image, number, effective) in enumerate(expected):
        found = class_statistics(bundle(), c, k="adaptive")
        assert found.magnitude == pytest.approx(magnitude) and found.top(2).tolist() == top
        assert found.frequency == pytest.approx(frequency) and found.per_image == pytest.approx(per_image)
        assert found.number == number and found.effective == pytest.approx(effective)
    assert class_statistics(bundle(), 2, k=2).frequency.tolist() == [0, 0, 0, 1]  # not the zero at index 0


def test_golden_top_shares():
    shares = [top_share(class_statistics(bundle(), c, k=2).magnitude, 0.25) for c in range(3)]
    assert shares == pytest.approx([0.5714, 0.75, 1.0], abs=1e-4)


def test_magnitude_is_over_all_pictures_of_the_group_not_only_those_whose_set_has_the_feature():
    found = class_statistics(bundle(), 0, k=1)
    assert found.frequency.tolist() == [0.5, 0, 0.5, 0] and found.magnitude[0] == pytest.approx(1.5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
@example(47630, False)  # a class of which no feature has a positive mean
def test_invariants(seed, cosine):
    ours = random_bundle(seed, n=40, cosine=cosine)
    permuted = np.random.default_rng(seed).permutation(12)
    again = random_bundle(seed, n=40, cosine=cosine)
    object.__setattr__(again, "features", ours.features[:, permuted])
    object.__setattr__(again, "weight", ours.weight[:, permuted])
    for c in range(4):
        found = class_statistics(ours, c, k="adaptive")
        if not found.n:
            assert np.isnan(found.frequency).all() and found.number == 0 and np.isnan(found.effective)
            continue
        assert found.frequency.sum() == pytest.approx(found.per_image)
        assert found.number <= (ours.weight[c] > 0).sum()  # features >= 0, so only positive weights argue for a class
        other = class_statistics(again, c, k="adaptive")
        assert other.frequency == pytest.approx(found.frequency[permuted])
        assert other.magnitude == pytest.approx(found.magnitude[permuted])
        if not (found.magnitude > 0).any():  # no feature argues for the class: shares of nothing
            assert np.isnan(top_share(found.magnitude)) and np.isnan(found.participation)
            continue
        assert top_share(other.magnitude) == pytest.approx(top_share(found.magnitude))
        assert 1 <= found.participation <= 12 + 1e-9
        assert found.number_above(0.5) <= found.number_above(0.1) <= found.number_above(0.0) == found.number


def test_groups_and_classes_of_weights():
    ours = bundle()
    assert class_statistics(ours, 2, group="FN", ce_class="pred", k=2).magnitude == pytest.approx([1, 0, 2, 0])
    assert class_statistics(ours, 2, group="FN", k=2).magnitude == pytest.approx([0.5, 0, -1, 0])
    assert class_statistics(ours, 2, group="FP", ce_class=2, k=2).magnitude == pytest.approx([0.25, 0.5, 0, 1])
    assert class_statistics(ours, 1, group="FP", k=2).n == 0


def test_a_missed_pictures_adaptive_set_is_all_that_argues_for_its_class():
    found = class_statistics(bundle(), 2, k="adaptive", group="FN")
    assert found.frequency.tolist() == [1, 0, 0, 0]


def test_effective_numbers_against_scikit_bio():
    # scikit-bio 0.7.4: hill(COUNTS, order=1), inv_simpson(COUNTS)
    assert effective_number(COUNTS.astype(float)) == pytest.approx(6.235572240315839)
    assert participation_ratio(COUNTS.astype(float)) == pytest.approx(5.1489361702127665)
    assert np.isnan(effective_number(np.zeros(3))) and np.isnan(participation_ratio(np.array([-1.0, 0])))


def test_class_top_k_breaks_ties_to_the_lower_index():
    assert class_top_k(np.array([1.0, 2, 2, 1]), 3).tolist() == [1, 2, 0]
    assert class_magnitude(np.array([[1.0, 2, 2, 1]]), 3).tolist() == pytest.approx([5 / 3])


def test_top_share_of_all_may_exceed_one():
    assert top_share(np.array([3.0, -1, -1, 1]), 0.25) == pytest.approx(0.75)
    assert top_share(np.array([3.0, -1, -1, 1]), 0.25, of="all") == pytest.approx(1.5)
    assert np.isnan(top_share(np.array([-1.0, 0])))


def slow_density_ratio(reference, adversary, k):
    mean = reference.mean(0)
    top = sorted(range(len(mean)), key=lambda d: (-mean[d], d))[:k]

    def uses(rows, d):
        return sum(row[d] > 0 and d in sorted(range(len(row)), key=lambda j: (-row[j], j))[:k] for row in rows.tolist())

    return [uses(adversary, d) / max(uses(reference, d), 1e-300) for d in top]


def test_density_ratio_against_a_loop_for_any_class():
    # The authors' script slices [:9], so that only class 9 comes out right, ignores its K, and divides by zero counts.
    ours = random_bundle(counts=[40, 25, 10, 5])
    for c in range(4):
        for other in range(4):
            a, b = ours.features[ours.rows(c)], ours.features[ours.rows(other)]
            raw = density_ratio(a, b, 4, per_image=False)
            known = ~np.isnan(raw)
            assert raw[known] == pytest.approx(np.array(slow_density_ratio(a, b, 4))[known])
            assert density_ratio(a, b, 4)[known] == pytest.approx(raw[known] * len(a) / len(b))
    assert density_ratio(a, a, 4) == pytest.approx(1.0)


def test_density_ratio_does_not_grow_with_the_adversarys_size():
    rng = np.random.default_rng(0)
    one, few, many = (np.abs(rng.normal(size=(n, 16))) for n in (50, 50, 5000))
    raw = [np.nanmean(density_ratio(one, x, 5, per_image=False)) for x in (few, many)]
    fair = [np.nanmean(density_ratio(one, x, 5)) for x in (few, many)]
    assert raw[1] > 50 * raw[0] and fair[1] == pytest.approx(fair[0], rel=0.2)


def test_a_feature_the_reference_never_uses_is_undefined():
    assert np.isnan(density_ratio(np.zeros((3, 4)), np.ones((3, 4)), 2)).all()


def test_sets():
    a, b = np.array([1, 2, 3]), np.array([3, 4, 1])
    assert jaccard(a, b) == 0.5 and overlap(a, b) == pytest.approx(2 / 3) and overlap(a, a) == 1
    assert chance_overlap(10, 64) == 0.15625 and np.isnan(jaccard(a[:0], a[:0]))
    with pytest.raises(ValueError, match="two sets of one size"):
        overlap(a, b[:2])


def test_random_sets_overlap_by_k_over_d():
    rng = np.random.default_rng(0)
    found = [overlap(rng.permutation(64)[:10], rng.permutation(64)[:10]) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(chance_overlap(10, 64), abs=4 * np.std(found) / np.sqrt(2000))


def test_rank_biased_overlap():
    ranking = np.arange(10)
    assert rank_biased_overlap(ranking, ranking) == pytest.approx(1)
    assert rank_biased_overlap(ranking, ranking + 10) == pytest.approx(0)
    # depth 2, agreement 0 then 1: A_2 p^2 + (1 - p) / p * (A_1 p + A_2 p^2) = .81 + .1 * .9
    assert rank_biased_overlap(np.array([0, 1]), np.array([1, 0]), 0.9) == pytest.approx(0.81 + 0.1 * 0.9)
    late = rank_biased_overlap(ranking, ranking[[0, 1, 2, 3, 4, 5, 6, 7, 9, 8]])
    early = rank_biased_overlap(ranking, ranking[[1, 0, 2, 3, 4, 5, 6, 7, 8, 9]])
    assert early < late < 1
    with pytest.raises(ValueError, match="p must lie in"):
        rank_biased_overlap(ranking, ranking, 1.0)
    with pytest.raises(ValueError, match="two rankings"):
        rank_biased_overlap(ranking, ranking[:3])


def test_k_is_a_number_or_adaptive():
    with pytest.raises(ValueError, match="'adaptive' where there is a head"):
        class_statistics(bundle(), 0, k="all")

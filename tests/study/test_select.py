from itertools import combinations

import numpy as np
import pytest

from divaug.latent.diversity import unbiased_vendi, unit_rows
from divaug.study.select import (
    Kinds,
    half_of_kinds,
    herding,
    joint_rows,
    k_centre,
    matched_cells,
    spread,
    stratified,
    swap_within_cells,
)


def rows(n=24, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_a_cosine_in_the_joint_space_is_the_mean_of_the_spaces_cosines():
    spaces = [rows(9, 4, 1), 5 + 3 * rows(9, 2, 2), rows(9, 7, 3)]
    joint = joint_rows(spaces)
    centred = [space - space.mean(0) for space in spaces]
    for i in range(9):
        for j in range(9):
            cosines = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for x in centred]
            assert joint[i] @ joint[j] == pytest.approx(np.mean(cosines))


def test_other_images_are_centred_by_the_means_given():
    space = rows(9, 4)
    means = [space.mean(0)]
    np.testing.assert_allclose(joint_rows([space[:3]], means), joint_rows([space])[:3])


def test_kinds_find_separate_groups_and_place_others_with_the_nearest():
    groups = np.repeat(np.arange(4), 10)
    features = 20 * np.eye(4)[groups] + rows(40, 4)
    kinds = Kinds(features, 4, np.random.default_rng(0))
    assert all(len(set(kinds.of[groups == g])) == 1 for g in range(4))
    assert len(set(kinds.of)) == 4
    np.testing.assert_array_equal(kinds.nearest(features), kinds.of)
    far = 20 * np.eye(4) + 1
    assert [kinds.nearest(far[g : g + 1])[0] for g in range(4)] == [kinds.of[groups == g][0] for g in range(4)]
    with pytest.raises(ValueError, match="3 images cannot have 4 kinds"):
        Kinds(rows(3), 4, np.random.default_rng(0))


def test_half_of_the_kinds_holds_about_half_of_the_images():
    """Sizes 1 to 16: a half at random holds between 26 and 74 % of the images."""
    of = np.repeat(np.arange(16), np.arange(1, 17))
    shares, drawn = [], set()
    for seed in range(50):
        kept = half_of_kinds(of, 16, np.random.default_rng(seed))
        assert len(set(kept)) == 8 and (np.diff(kept) > 0).all()
        shares.append(np.isin(of, kept).mean())
        drawn.add(tuple(kept))
    assert 0.45 <= min(shares) <= max(shares) <= 0.55
    assert len(drawn) > 40  # at random, not the one best half


def test_where_no_half_of_the_kinds_fits_the_nearest_is_taken():
    of = np.repeat(np.arange(4), (90, 5, 3, 2))
    assert half_of_kinds(of, 4, np.random.default_rng(0)).tolist() in ([1, 2], [1, 3], [2, 3], [0, 3])
    share = np.isin(of, half_of_kinds(of, 4, np.random.default_rng(0))).mean()
    assert abs(share - 0.5) == pytest.approx(0.42)  # 8 % or 92 %
    with pytest.raises(ValueError, match="3 kinds have no half"):
        half_of_kinds(of, 3, np.random.default_rng(0))


def test_cells_are_quantiles_within_quantiles():
    radius, margin = np.arange(36.0), np.random.default_rng(0).permutation(36).astype(float)
    cells = matched_cells([radius, margin], 3)
    assert np.bincount(cells).tolist() == [4] * 9
    for third in range(3):
        inside = cells // 3 == third
        assert sorted(radius[inside]) == list(range(12 * third, 12 * third + 12))
        for part in range(2):
            below, above = (margin[cells == 3 * third + part + i] for i in (0, 1))
            assert below.max() < above.min()


@pytest.mark.parametrize("n", [0, 7, 12, 24])
def test_a_stratified_draw_is_even_and_has_no_image_twice(n):
    cells = np.repeat(np.arange(4), (6, 6, 6, 6))
    drawn = stratified(cells, n, np.random.default_rng(n))
    assert len(set(drawn.tolist())) == len(drawn) == n
    assert np.ptp(np.bincount(cells[drawn], minlength=4)) <= 1


def test_a_stratified_draw_passes_over_empty_cells_and_refuses_too_many():
    cells = np.array([0, 1, 1, 1, 1, 1])
    assert np.bincount(cells[stratified(cells, 5, np.random.default_rng(0))]).tolist() == [1, 4]
    with pytest.raises(ValueError, match="cannot draw 7 of 6"):
        stratified(cells, 7, np.random.default_rng(0))


def objective(pairs, single, chosen):
    chosen = list(chosen)
    return sum(pairs[i, j] for i in chosen for j in chosen if i != j) + sum(single[i] for i in chosen)


@pytest.mark.parametrize("seed", range(6))
def test_swaps_end_where_no_single_swap_within_a_cell_is_better(seed):
    rng = np.random.default_rng(seed)
    pairs, single = rng.normal(size=(14, 14)), rng.normal(size=14)
    pairs = pairs + pairs.T
    cells = rng.integers(0, 2, 14)
    chosen = swap_within_cells(pairs, single, cells, 6, np.random.default_rng(seed), rounds=100)
    start = stratified(cells, 6, np.random.default_rng(seed))
    assert np.bincount(cells[chosen], minlength=2).tolist() == np.bincount(cells[start], minlength=2).tolist()
    assert len(set(chosen.tolist())) == 6
    found = objective(pairs, single, chosen)
    assert found <= objective(pairs, single, start) + 1e-9
    for place, old in enumerate(chosen):
        for new in set(range(14)) - set(chosen.tolist()):
            if cells[new] == cells[old]:
                other = [*chosen[:place], new, *chosen[place + 1 :]]
                assert objective(pairs, single, other) >= found - 1e-8


def test_swaps_come_near_to_the_best_of_all_subsets():
    """Best of 8 starts against all 924 subsets: a swap search that moved nothing would be at a random subset."""
    features = unit_rows(rows(12, 4))
    cosines = features @ features.T
    every = [objective(cosines**2, np.zeros(12), subset) for subset in combinations(range(12), 6)]
    found = [
        objective(
            cosines**2, np.zeros(12),
            spread(features, np.zeros(12, dtype=np.int64), 6, 1, np.random.default_rng(seed), hold_mean=0.0),
        )
        for seed in range(8)
    ]  # fmt: skip
    assert min(found) == pytest.approx(min(every))
    assert max(found) < np.quantile(every, 0.05)


def test_spread_moves_the_unbiased_vendi_score_and_leaves_cells_and_mean():
    features = joint_rows([rows(400, 12, 5) * np.linspace(0.2, 2, 12)])
    radius = np.random.default_rng(1).uniform(size=400)
    cells = matched_cells([radius], 5)
    sets = {d: spread(features, cells, 60, d, np.random.default_rng(2)) for d in (-1, 1)}
    natural = stratified(cells, 60, np.random.default_rng(2))
    low, middle, high = (unbiased_vendi(features[chosen]) for chosen in (sets[-1], natural, sets[1]))
    assert low < 0.7 * middle and high > 1.15 * middle
    for chosen in sets.values():
        assert np.bincount(cells[chosen]).tolist() == [12] * 5
        # The mean of 60 random rows of length one has length about 1 / sqrt(60) = 0.13.
        assert np.linalg.norm(features[chosen].mean(0)) < 0.13


def test_the_penalty_holds_the_mean():
    skewed = np.random.default_rng(5).exponential(size=(400, 12)) ** 2 * np.linspace(0.2, 2, 12)
    features, cells = joint_rows([skewed]), np.zeros(400, dtype=np.int64)
    free, held = (
        np.linalg.norm(features[spread(features, cells, 60, -1, np.random.default_rng(2), hold_mean=weight)].mean(0))
        for weight in (0.0, 1.0)
    )
    assert held < 0.5 * free


def discrepancy(features, chosen):
    distances = ((features[:, None] - features[None]) ** 2).sum(2)
    kernel = np.exp(-2 * distances / np.median(distances[distances > 0]))
    return kernel[np.ix_(chosen, chosen)].mean() - 2 * kernel[chosen].mean() + kernel.mean()


def test_herding_represents_the_pool_better_than_chance():
    features, cells = rows(200, 5), np.zeros(200, dtype=np.int64)
    drawn = [discrepancy(features, stratified(cells, 20, np.random.default_rng(s))) for s in range(40)]
    assert discrepancy(features, herding(features, cells, 20, np.random.default_rng(0))) < 0.5 * min(drawn)


def test_k_centre_takes_the_farthest_image_each_time():
    features = rows(30, 3)
    chosen = k_centre(features, 6, np.random.default_rng(0))
    for i in range(1, 6):
        nearest = ((features[:, None] - features[chosen[:i]]) ** 2).sum(2).min(1)
        assert nearest[chosen[i]] == pytest.approx(nearest.max())

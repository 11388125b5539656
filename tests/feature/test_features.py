import numpy as np
import pytest
import torch
from scipy.stats import kstest

from divaug.base.labels import MixedLabels
from divaug.feature._memory import Deficit, FeatureMemory, append_rows
from divaug.feature.eos import EOS
from divaug.feature.feature_noise import FeatureNoise
from divaug.feature.feature_smote import FeatureSmote
from divaug.feature.isda import ISDA
from divaug.feature.manifold_mixup import ManifoldMixup

COUNTS = torch.tensor([60, 20, 5, 1])
D = 6


def rng(seed=0):
    return np.random.default_rng(seed)


def batches(steps, rows=16, seed=0, counts=COUNTS):
    """Batches drawn by class frequency: class c around 3 c in every dimension."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        labels = torch.multinomial(counts.double(), rows, replacement=True, generator=generator)
        yield 3.0 * labels[:, None] + torch.randn(rows, D, generator=generator), MixedLabels.hard(labels)


def test_memory_is_the_last_rows_of_each_class():
    memory, kept = FeatureMemory(4, D, 5), {c: [] for c in range(4)}
    for z, target in batches(30):
        memory.add(z, target)
        for row, c in zip(z, target.ids[:, 0].tolist(), strict=True):
            kept[c] = [*kept[c], row][-5:]
        for c in range(4):
            assert memory.filled[c] == len(kept[c])
            have = {tuple(row.tolist()) for row in memory.features[c, : memory.filled[c]]}
            assert have == {tuple(row.tolist()) for row in kept[c]}


def test_memory_takes_no_mixed_rows():
    memory = FeatureMemory(2, D, 4)
    ids = torch.tensor([[0, 1], [1, 0]])
    target = MixedLabels(ids, torch.tensor([[0.6, 0.4], [1.0, 0.0]]), torch.tensor([True, False]))
    memory.add(torch.ones(2, D), target)
    assert memory.filled.tolist() == [0, 1]
    replaced = MixedLabels(ids[:1], torch.tensor([[0.0, 1.0]]), torch.tensor([False]))  # wholly by its partner
    memory.add(torch.ones(1, D), replaced)
    assert memory.filled.tolist() == [0, 2]


def test_synthetic_classes_are_drawn_by_what_they_lack():
    deficit, filled = Deficit(COUNTS, 0.5), np.array([9, 9, 9, 9])
    drawn = np.concatenate([deficit.draw(16, filled, rng(seed)) for seed in range(600)])
    assert len(drawn) == 600 * 8
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares == pytest.approx(np.array([0, 40, 55, 59]) / 154, abs=0.029)  # 4 sd
    assert set(deficit.draw(400, np.array([9, 9, 0, 9]), rng())) == {1, 3}  # what is not remembered is left out
    assert len(deficit.draw(16, np.zeros(4, dtype=int), rng())) == 0
    assert len(Deficit(torch.tensor([7, 7, 7]), 1.0).draw(16, np.full(3, 9), rng())) == 0  # balanced
    odd = [len(Deficit(COUNTS, 0.3).draw(1, filled, rng(seed))) for seed in range(1000)]
    assert np.mean(odd) == pytest.approx(0.3, abs=0.06)  # a batch of one row too: 4 sd


@pytest.mark.parametrize("kind", [FeatureSmote, EOS])
def test_synthetic_rows_follow_the_batch_and_lie_where_they_should(kind):
    feature = kind(COUNTS, D, rate=1.0, memory=8)
    for step, (z, target) in enumerate(batches(40)):
        out, labels = feature(z, target, rng(step))
        assert torch.equal(out[:16], z) and torch.equal(labels.ids[:16], target.ids)
        points, slots = feature.memory.features, feature.memory.filled
        for row, c in zip(out[16:], labels.ids[16:, 0].tolist(), strict=True):
            own = points[c, : slots[c]]
            others = own if kind is FeatureSmote else torch.cat([points[d, : slots[d]] for d in range(4) if d != c])
            assert on_a_segment(row, own, others), (step, c)


def on_a_segment(row, starts, ends):
    """Whether a row is start + r (end - start), r in [0, 1], for any pair."""
    along = (ends[None] - starts[:, None]).flatten(0, 1)
    offset = (row - starts)[:, None].expand(-1, len(ends), -1).flatten(0, 1)
    length = (along**2).sum(1)
    r = torch.where(length > 0, (offset * along).sum(1) / length.clamp_min(1e-12), 0.0).clamp(0, 1)
    return bool(((offset - r[:, None] * along).norm(dim=1) < 1e-4).any())


def smote_neighbours_by_loops(points, base, k):
    distance = [(float((points[j] - points[base]).norm()), j) for j in range(len(points)) if j != base]
    return [j for _, j in sorted(distance)[:k]]


def test_smote_takes_one_of_the_nearest_neighbours_and_copies_are_neighbours_too():
    feature = FeatureSmote(torch.tensor([100, 10]), 1, rate=200.0, neighbours=2, memory=8)
    points = torch.tensor([[0.0], [0.0], [1.0], [10.0], [12.0]])
    feature.memory.add(points, MixedLabels.hard(torch.ones(5, dtype=torch.int64)))
    feature.memory.add(torch.zeros(1, 1) - 50, MixedLabels.hard(torch.zeros(1, dtype=torch.int64)))
    target = MixedLabels.hard(torch.zeros(1, dtype=torch.int64))
    out, labels = feature(torch.zeros(1, 1) - 50, target, rng())
    made = out[1:, 0]
    assert set(labels.ids[1:, 0].tolist()) == {1} and len(made) == 200
    neighbours = {base: smote_neighbours_by_loops(points, base, 2) for base in range(5)}
    assert neighbours == {0: [1, 2], 1: [0, 2], 2: [0, 1], 3: [4, 2], 4: [3, 2]}
    assert ((made >= 0) & (made <= 12)).all()
    # pairs (0, 1) and (1, 0), the copies, give exactly 0: bases 2/5, neighbour 1/2: a fifth of the rows (sd 0.028)
    assert (made == 0).double().mean().item() == pytest.approx(0.2, abs=0.12)


def test_smote_of_a_class_with_fewer_embeddings_than_neighbours_stays_among_them():
    feature = FeatureSmote(torch.tensor([100, 2]), 1, rate=200.0, neighbours=5, memory=8)
    feature.memory.add(torch.tensor([[5.0], [7.0]]), MixedLabels.hard(torch.ones(2, dtype=torch.int64)))
    out, _ = feature(torch.tensor([[-50.0]]), MixedLabels.hard(torch.zeros(1, dtype=torch.int64)), rng())
    made = out[1:, 0]
    assert made.min() >= 5 and made.max() <= 7  # never an empty place of the memory
    assert ((made == 5) | (made == 7)).double().mean() < 0.05  # nor itself


def test_a_class_with_one_embedding_is_copied_by_smote():
    feature = FeatureSmote(torch.tensor([9, 1]), 2, rate=3.0, memory=4)
    z = torch.tensor([[0.0, 0.0], [5.0, 7.0]])
    out, labels = feature(z, MixedLabels.hard(torch.tensor([0, 1])), rng())
    assert labels.ids[2:, 0].tolist() == [1] * 6 and torch.equal(out[2:], z[1].expand(6, 2))


def test_eos_moves_towards_an_enemy_among_the_neighbours_only():
    feature = EOS(torch.tensor([100, 10]), 1, rate=400.0, neighbours=2, memory=8)
    own, enemies = torch.tensor([[0.0], [1.0], [2.0], [20.0], [21.0], [22.0]]), torch.tensor([[3.0], [-90.0]])
    feature.memory.add(own, MixedLabels.hard(torch.ones(6, dtype=torch.int64)))
    feature.memory.add(enemies[:1], MixedLabels.hard(torch.zeros(1, dtype=torch.int64)))
    target = MixedLabels.hard(torch.zeros(1, dtype=torch.int64))
    out, labels = feature(enemies[1:], target, rng())
    made = out[1:, 0]
    # 2 nearest of 0: 1, 2; of 1: 0, 2; of 2: 1, 3 (an enemy); of 20, 21, 22: each other. Only base 2 has one
    assert set(labels.ids[1:, 0].tolist()) == {1}
    assert ((made >= 2) & (made <= 3)).all()
    assert len(made) == pytest.approx(400 / 6, abs=30)  # 4 sd of a binomial share of a sixth
    assert kstest(made.numpy() - 2, "uniform").pvalue > 1e-4  # anywhere on the segment


def test_eos_without_any_enemy_adds_nothing():
    feature = EOS(torch.tensor([100, 10]), 1, rate=20.0, neighbours=1, memory=8)
    feature.memory.add(torch.tensor([[0.0], [0.1], [0.2]]), MixedLabels.hard(torch.ones(3, dtype=torch.int64)))
    target = MixedLabels.hard(torch.zeros(1, dtype=torch.int64))
    out, labels = feature(torch.tensor([[99.0]]), target, rng())  # the authors' code crashes on an empty choice
    assert len(out) == len(labels.ids) == 1


def test_eos_and_smote_train_the_head_only():
    for kind in (FeatureSmote, EOS):
        feature = kind(COUNTS, D, rate=1.0, memory=8)
        for step, (z, target) in enumerate(batches(20)):
            leaf = z.requires_grad_()
            out, _ = feature(leaf, target, rng(step))
        out[16:].sum().backward() if out[16:].requires_grad else None
        assert leaf.grad is None or not leaf.grad.any()


def test_manifold_mixup_is_its_equation_on_mixed_labels_too():
    feature = ManifoldMixup(alpha=2.0)
    z = torch.randn(5, D, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0, 1], [1, 2], [2, 2], [3, 0], [0, 3]])
    weights = torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [0.1, 0.9]])
    out, labels = feature(z, MixedLabels(ids, weights), rng(3))
    draws = rng(3)
    draws.random()
    kept, partner = float(draws.beta(2.0, 2.0)), draws.permutation(5)
    for i, j in enumerate(partner):
        torch.testing.assert_close(out[i], kept * z[i] + (1 - kept) * z[j])
        expected = np.zeros(4)
        for source, share in ((i, kept), (j, 1 - kept)):
            for c, w in zip(ids[source], weights[source], strict=True):
                expected[c] += share * w
        assert MixedLabels(labels.ids[i : i + 1], labels.weights[i : i + 1]).mass(4).tolist() == pytest.approx(expected)
    shares = [rng_share(seed) for seed in range(2000)]
    assert kstest(shares, "beta", args=(2.0, 2.0)).pvalue > 1e-4
    still = ManifoldMixup(prob=0.0)
    assert still(z, MixedLabels(ids, weights), rng())[0] is z


def rng_share(seed):
    _, labels = ManifoldMixup(alpha=2.0)(torch.zeros(2, D), MixedLabels.hard(torch.tensor([0, 1])), rng(seed))
    return labels.weights[0, 0].item()


def test_noise_has_the_spread_of_each_dimension_and_grows_with_rarity():
    counts = torch.tensor([100, 25])
    feature = FeatureNoise(counts, 3, std=0.2, power=0.5, momentum=1.0)
    spread = torch.tensor([1.0, 5.0, 0.0])
    z = torch.randn(6000, 3, generator=torch.Generator().manual_seed(0)) * spread
    labels = torch.arange(6000) % 2
    out, _ = feature(z, MixedLabels.hard(labels), rng())
    for c, scale in ((0, 0.2), (1, 0.4)):  # (100 / 25) ** 0.5 = 2
        noise = (out - z)[labels == c].std(0)
        # sd of a standard deviation of 3000 values is 1.3 %
        assert noise.tolist() == pytest.approx((scale * z.std(0)).tolist(), rel=0.06)
    first = feature.variance.clone()
    slow = FeatureNoise(counts, 3, momentum=0.25)
    slow(z, MixedLabels.hard(labels), rng())
    slow(3 * z, MixedLabels.hard(labels), rng())
    torch.testing.assert_close(slow.variance, 0.75 * first + 0.25 * 9 * first)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_isda_follows_the_covariance_of_each_class(kind):
    feature, seen = ISDA(4, D, 100, covariance=kind), {c: [] for c in range(4)}
    mix = torch.randn(D, D, generator=torch.Generator().manual_seed(5))
    for step, (z, target) in enumerate(batches(30)):
        z = z @ mix  # noqa: PLW2901 - correlated dimensions
        feature(z, target, rng(step))
        for row, c in zip(z, target.ids[:, 0].tolist(), strict=True):
            seen[c].append(row)
    for c in (0, 1, 2):
        rows = torch.stack(seen[c])
        assert feature.count[c] == len(rows)
        torch.testing.assert_close(feature.mean[c], rows.mean(0), rtol=1e-4, atol=1e-4)
        expected = torch.cov(rows.T, correction=0)  # the running form is exact over batches
        expected = expected if kind == "full" else expected.diagonal()
        torch.testing.assert_close(feature.spread[c], expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("kind", ["diagonal", "low_rank", "full"])
def test_isda_noise_has_the_covariance_it_says_and_grows_with_training(kind):
    feature = ISDA(1, D, 50, strength=0.5, covariance=kind, **({"rank": 40} if kind == "low_rank" else {}))
    mix = torch.randn(D, D, generator=torch.Generator().manual_seed(5)) / D**0.5
    z = torch.randn(40, D, generator=torch.Generator().manual_seed(1)) @ mix
    target = MixedLabels.hard(torch.zeros(40, dtype=torch.int64))
    assert torch.equal(feature(z, target, rng(0))[0], z)  # nothing at the first step
    moves = torch.cat([feature(z, target, rng(step))[0] - z for step in range(1, 50)])
    covariance = torch.cov(z.T, correction=0)
    covariance = torch.diag(covariance.diagonal()) if kind == "diagonal" else covariance
    expected = 0.5 * (sum(range(1, 50)) / 49 / 50) * covariance  # strength * mean of t / T
    found = torch.cov(moves.T)
    # 1960 moves: an entry's sd is about sqrt(2 / 1960) = 3 % of the product of two sds, a bit more as t varies
    bound = 0.2 * torch.outer(expected.diagonal(), expected.diagonal()).sqrt()
    assert ((found - expected).abs() < bound).all()


def test_isda_with_one_picture_of_a_class_does_not_move_it():
    for kind in ("diagonal", "low_rank", "full"):
        feature = ISDA(3, D, 2, covariance=kind)
        z, target = torch.randn(1, D), MixedLabels.hard(torch.tensor([2]))
        for step in range(2):
            out, _ = feature(z, target, rng(step))
            torch.testing.assert_close(out, z, atol=1e-3, rtol=0)


def test_full_covariance_of_few_rows_in_many_dimensions():
    """Singular, with blocks of zeros: an eigendecomposition in float32 fails to converge on such matrices."""
    feature = ISDA(3, 256, 10, covariance="full")
    generator = torch.Generator().manual_seed(0)
    for step in range(10):
        z = torch.randn(12, 256, generator=generator).relu() * (torch.arange(256) % 2)
        out, _ = feature(z, MixedLabels.hard(torch.arange(12) % 3), rng(step))
        assert torch.isfinite(out).all()
    moved = (out - z)[:, ::2]  # these dimensions never varied
    assert moved.abs().max() < 0.01 * (out - z).abs().max()


def test_appended_rows_have_hard_labels_of_any_width():
    target = MixedLabels(torch.tensor([[0, 1, 2]]), torch.tensor([[0.5, 0.3, 0.2]]))
    _, labels = append_rows(torch.zeros(1, 2), target, torch.ones(2, 2), torch.tensor([3, 1]))
    assert labels.ids.shape == (3, 3) and labels.dominant().tolist() == [0, 3, 1]
    assert labels.weights.sum(1).tolist() == pytest.approx([1, 1, 1]) and labels.is_mixed().tolist() == [
        True,
        False,
        False,
    ]
    assert labels.mass(4).tolist() == pytest.approx([0.5, 1.3, 0.2, 1.0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FeatureSmote(COUNTS, D, neighbours=0), r"neighbours must be >= 1, got 0"),
        (lambda: EOS(COUNTS, D, memory=1), r"memory must be >= 2, got 1"),
        (lambda: EOS(COUNTS, D, rate=-1.0), r"rate must be >= 0, got -1\.0"),
        (lambda: ISDA(4, D, 9, covariance="diag"), r"covariance must be one of diagonal, low_rank, full, got 'diag'"),
        (lambda: ISDA(4, D, 9, strength=-1.0), r"strength must be >= 0, got -1\.0"),
        (lambda: ISDA(4, D, 9, rank=1), r"rank must be >= 2, got 1"),
        (lambda: ISDA(4, D, 9, rank=8), r"rank has no effect with covariance 'diagonal'"),
        (lambda: FeatureNoise(COUNTS, D, std=-0.1), r"std must be >= 0, got -0\.1"),
        (lambda: FeatureNoise(COUNTS, D, momentum=0.0), r"momentum must lie in \(0, 1\], got 0\.0"),
        (lambda: ManifoldMixup(alpha=0.0), r"alpha must be > 0, got 0\.0"),
        (lambda: ManifoldMixup(prob=2.0), r"prob must lie in \[0, 1\], got 2\.0"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

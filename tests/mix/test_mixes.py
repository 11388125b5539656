import numpy as np
import pytest
import torch

from divaug.data.loaders import Donors
from divaug.mix._blend import BlendPlan, BoxPlan, draw_box
from divaug.mix.cmo import CMO
from divaug.mix.cutmix import CutMix
from divaug.mix.mixup import Mixup
from divaug.mix.remix import Remix

IMAGES = torch.rand(5, 3, 6, 9, generator=torch.Generator().manual_seed(0))  # odd B, H != W
LABELS = torch.tensor([0, 0, 1, 2, 2])
PARTNER = np.array([4, 0, 0, 2, 3])
COUNTS = torch.tensor([100, 30, 10])


def test_mixup_is_its_equation():
    mixed, target = Mixup().apply(IMAGES, LABELS, BlendPlan(PARTNER, 0.3))
    torch.testing.assert_close(mixed, 0.3 * IMAGES + 0.7 * IMAGES[PARTNER])
    assert torch.equal(target.ids, torch.stack([LABELS, LABELS[PARTNER]], 1))
    torch.testing.assert_close(target.weights, torch.tensor([[0.3, 0.7]]).expand(5, 2))
    assert target.is_mixed().all()  # rows 1 and 3 with partners of their own class too
    alone = np.arange(5)
    assert not Mixup().apply(IMAGES, LABELS, BlendPlan(alone, 0.3))[1].is_mixed().any()


def test_mixup_share_is_beta_and_partners_are_a_permutation():
    mix, rng = Mixup(alpha=0.4), np.random.default_rng(0)
    plans = [mix.sample(LABELS, (6, 9), rng) for _ in range(4000)]
    shares = np.array([plan.kept for plan in plans])
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)) = 0.139; sd of the mean of 4000 is 0.0059
    assert shares.mean() == pytest.approx(0.5, abs=0.024)
    assert shares.var() == pytest.approx(1 / (4 * 1.8), abs=0.01)
    assert all(sorted(plan.partner) == list(range(5)) for plan in plans[:50])


@pytest.mark.parametrize("kept", [0.1, 0.4, 0.6, 0.9])
def test_remix_labels_by_the_papers_rule(kept):
    kappa, tau = 3.0, 0.5
    mixed, target = Remix(COUNTS).apply(IMAGES, LABELS, BlendPlan(PARTNER, kept))
    torch.testing.assert_close(mixed, kept * IMAGES + (1 - kept) * IMAGES[PARTNER])
    for i, j in enumerate(PARTNER):
        ratio = COUNTS[LABELS[i]].item() / COUNTS[LABELS[j]].item()
        expected = kept
        if ratio >= kappa and kept < tau:
            expected = 0.0
        elif ratio <= 1 / kappa and 1 - kept < tau:
            expected = 1.0
        assert target.weights[i, 0].item() == pytest.approx(expected)
    assert target.is_mixed().all()  # also where the label is whole


def test_remix_with_tau_zero_is_mixup():
    plan = BlendPlan(PARTNER, 0.2)
    a, b = Remix(COUNTS, tau=0.0).apply(IMAGES, LABELS, plan), Mixup().apply(IMAGES, LABELS, plan)
    assert torch.equal(a[0], b[0]) and torch.equal(a[1].weights, b[1].weights)


def test_cutmix_matches_a_pixel_by_pixel_reference():
    mixed, target = CutMix().apply(IMAGES, LABELS, BoxPlan(PARTNER, (1, 4, 2, 7)))
    for b in range(5):
        for y in range(6):
            for x in range(9):
                source = PARTNER[b] if 1 <= y < 4 and 2 <= x < 7 else b
                assert torch.equal(mixed[b, :, y, x], IMAGES[source, :, y, x])
    assert torch.equal(target.ids, torch.stack([LABELS, LABELS[PARTNER]], 1))
    torch.testing.assert_close(target.weights[0], torch.tensor([39 / 54, 15 / 54]))


@pytest.mark.parametrize(("box", "source"), [((0, 0, 0, 0), np.arange(5)), ((0, 6, 0, 9), PARTNER)])
def test_an_empty_box_is_identity_and_a_full_one_the_partner(box, source):
    mixed, target = CutMix().apply(IMAGES, LABELS, BoxPlan(PARTNER, box))
    assert torch.equal(mixed, IMAGES[source]) and not target.is_mixed().any()
    assert torch.equal((target.ids * target.weights).sum(1).long(), LABELS[source])


def test_mean_area_of_a_box_matches_its_closed_form():
    rng = np.random.default_rng(0)
    boxes = np.array([draw_box((64, 64), rng.random(), rng) for _ in range(6000)])
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / 64**2
    # u = 1 - kept ~ U(0,1), side s = sqrt(u); a uniform centre keeps s (1 - s/4) per axis after clipping, so
    # E[area] = E[u (1 - sqrt(u)/4)^2] = 1/2 - 1/5 + 1/48 = 0.3208; rounding the side down takes about 1 % off it.
    # sd of one area is below 0.29: the mean of 6000 has 0.0037.
    assert area.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.018)


def test_cutmix_mixes_the_share_of_steps_it_says():
    mix, rng = CutMix(prob=0.3), np.random.default_rng(0)
    mixed = sum(mix.sample(LABELS, (32, 32), rng).box != (0, 0, 0, 0) for _ in range(3000))
    # a box of a share near 0 can be empty by itself: below 1 % of draws at 32x32
    assert mixed / 3000 == pytest.approx(0.3, abs=0.035)  # sd 0.0084
    assert all(CutMix(prob=0.0).sample(LABELS, (32, 32), rng).box == (0, 0, 0, 0) for _ in range(50))


def test_cmo_pastes_donors_into_the_batch():
    mix = CMO(LABELS, torch.tensor([2, 1, 2]))
    donors = Donors(IMAGES.flip(0), torch.tensor([1, 1, 2, 0, 1]))
    mixed, target = mix.apply(IMAGES, LABELS, BoxPlan(None, (0, 3, 0, 9)), donors)
    assert torch.equal(mixed[:, :, :3], IMAGES.flip(0)[:, :, :3]) and torch.equal(mixed[:, :, 3:], IMAGES[:, :, 3:])
    assert torch.equal(target.ids, torch.stack([LABELS, donors.labels], 1))
    torch.testing.assert_close(target.weights, torch.full((5, 2), 0.5))


@pytest.mark.parametrize(("power", "shares"), [(1.0, [1 / 3] * 3), (0.0, [100 / 140, 30 / 140, 10 / 140])])
def test_cmo_draws_foregrounds_from_the_whole_set_by_rarity(power, shares):
    labels = torch.repeat_interleave(torch.arange(3), COUNTS)
    mix, rng = CMO(labels, COUNTS, power=power), np.random.default_rng(0)
    donors = torch.cat([mix.donors(torch.zeros(128, dtype=torch.int64), rng) for _ in range(100)])
    seen = torch.bincount(labels[donors], minlength=3) / len(donors)
    assert seen.tolist() == pytest.approx(shares, abs=0.017)  # sd below 0.0042
    assert len(donors.unique()) == 140


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mixup(alpha=0.0), r"alpha must be > 0, got 0\.0"),
        (lambda: CutMix(prob=1.5), r"prob must lie in \[0, 1\], got 1\.5"),
        (lambda: Remix(COUNTS, kappa=0.5), r"kappa must be >= 1, got 0\.5"),
        (lambda: Remix(COUNTS, tau=2.0), r"tau must lie in \[0, 1\], got 2\.0"),
        (lambda: Remix(torch.tensor([1, 0])), r"classes \[1\] have no images"),
        (lambda: CMO(LABELS, torch.tensor([2, 1, 2]), power=-1.0), r"power must be >= 0, got -1\.0"),
        (
            lambda: CMO(LABELS, torch.tensor([2, 1, 2])).apply(IMAGES, LABELS, BoxPlan(None, (0, 1, 0, 1))),
            "donors",
        ),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

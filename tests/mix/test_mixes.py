import numpy as np
import pytest
import torch
from scipy.stats import kstest

from divaug.data.loaders import Donors
from divaug.mix._mix import BlendPlan, BoxPlan, draw_boxes, rows_of
from divaug.mix.balanced_mixup import BalancedMixup
from divaug.mix.cmo import CMO
from divaug.mix.cutmix import CutMix
from divaug.mix.mixup import Mixup
from divaug.mix.partners.minority import Minority
from divaug.mix.remix import Remix
from divaug.mix.resizemix import ResizeMix

IMAGES = torch.rand(5, 3, 6, 9, generator=torch.Generator().manual_seed(0))  # odd B, H != W
LABELS = torch.tensor([0, 0, 1, 2, 2])
PARTNER = np.array([4, 0, 0, 2, 3])
COUNTS = torch.tensor([100, 30, 10])
KEPT = np.array([0.3, 0.9, 1.0, 0.0, 0.55], dtype=np.float32)
BOXES = np.array([[1, 4, 2, 7], [0, 6, 0, 9], [0, 0, 0, 0], [5, 6, 8, 9], [0, 3, 4, 9]])


def shared(value, rows=5):
    return np.full(rows, value, dtype=np.float32)


@pytest.mark.parametrize("kept", [shared(0.3), KEPT])
def test_mixup_is_its_equation(kept):
    mixed, target = Mixup().apply(IMAGES, LABELS, BlendPlan(PARTNER, kept))
    for i, j in enumerate(PARTNER):
        torch.testing.assert_close(mixed[i], float(kept[i]) * IMAGES[i] + (1 - float(kept[i])) * IMAGES[j])
        assert target.ids[i].tolist() == [LABELS[i], LABELS[j]]
        assert target.weights[i].tolist() == pytest.approx([kept[i], 1 - kept[i]])
        assert target.is_mixed()[i] == (0 < kept[i] < 1)  # rows 1 and 3 with partners of their own class too
    alone = np.arange(5)
    assert not Mixup().apply(IMAGES, LABELS, BlendPlan(alone, kept))[1].is_mixed().any()


def test_mixup_shares_are_beta_and_partners_are_a_permutation():
    mix, rng = Mixup(alpha=0.4), np.random.default_rng(0)
    plans = [mix.sample(LABELS, (6, 9), rng) for _ in range(4000)]
    assert all(len(set(plan.kept)) == 1 for plan in plans[:50])
    # a right draw fails one seed in 10,000
    assert kstest([plan.kept[0] for plan in plans], "beta", args=(0.4, 0.4)).pvalue > 1e-4
    assert all(sorted(plan.partner) == list(range(5)) for plan in plans[:50])
    rows = np.concatenate([Mixup(alpha=0.4, per_row=True).sample(LABELS, (6, 9), rng).kept for _ in range(800)])
    assert kstest(rows, "beta", args=(0.4, 0.4)).pvalue > 1e-4 and len(set(rows[:5])) == 5


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_shares_are_distributed_as_in_torchvision_and_timm(name):
    """Label weights of 3000 steps against two other libraries', Kolmogorov-Smirnov for mixup."""
    from timm.data import Mixup as TimmMixup
    from torchvision.transforms import v2

    labels, rng = torch.tensor([0, 1]), np.random.default_rng(0)
    images = torch.zeros(2, 3, 32, 32)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    kind = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[name]
    of_torchvision = [kind(alpha=0.7, num_classes=2)(images, labels)[1][0, 0].item() for _ in range(3000)]
    torch.set_rng_state(state)
    np.random.seed(0)  # noqa: NPY002 - timm draws from it
    alphas = {"mixup_alpha": 0.7 * (name == "mixup"), "cutmix_alpha": 0.7 * (name == "cutmix")}
    peer = TimmMixup(**alphas, label_smoothing=0.0, num_classes=2)
    of_timm = [peer(images.clone(), labels)[1][0, 0].item() for _ in range(3000)]

    ours, found = {"mixup": Mixup(alpha=0.7), "cutmix": CutMix(alpha=0.7, prob=1.0)}[name], []
    for _ in range(3000):
        plan = ours.sample(labels, (32, 32), rng)
        plan = type(plan)(np.array([1, 0]), *list(vars(plan).values())[1:])
        found.append(ours.apply(images, labels, plan)[1].weights[0, 0].item())
    for theirs in (of_torchvision, of_timm):
        if name == "cutmix":
            # sides are rounded differently: theirs round the half sides (areas up to 4 % larger); compare up to that
            assert np.mean(found) == pytest.approx(np.mean(theirs), abs=0.03)
            grid = np.linspace(0.05, 0.95, 19)
            ours_cdf, theirs_cdf = (np.mean(np.array(x)[:, None] <= grid, axis=0) for x in (found, theirs))
            assert np.abs(ours_cdf - theirs_cdf).max() < 0.07
        else:
            assert kstest(found, theirs).pvalue > 1e-4


@pytest.mark.parametrize("kept", [0.1, 0.4, 0.6, 0.9])
def test_remix_labels_by_the_papers_rule(kept):
    kappa, tau = 3.0, 0.5
    mixed, target = Remix(COUNTS).apply(IMAGES, LABELS, BlendPlan(PARTNER, shared(kept)))
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


def test_remix_weighs_rows_one_by_one():
    """BoT's Remix averages over the batch before it weighs, so that every row gets the batch's share."""
    counts = torch.tensor([100, 100, 1])
    labels = torch.tensor([0, 1, 0, 2])
    plan = BlendPlan(np.array([1, 0, 3, 2]), shared(0.4, 4))
    target = Remix(counts).apply(IMAGES[:4], labels, plan)[1]
    assert target.weights[:, 0].tolist() == pytest.approx([0.4, 0.4, 0.0, 0.4])  # 100:1 only in row 2, as 0.4 < tau


def test_remix_with_tau_zero_is_mixup():
    plan = BlendPlan(PARTNER, shared(0.2))
    a, b = Remix(COUNTS, tau=0.0).apply(IMAGES, LABELS, plan), Mixup().apply(IMAGES, LABELS, plan)
    assert torch.equal(a[0], b[0]) and torch.equal(a[1].weights, b[1].weights)


def pasted_by_loops(partner, boxes):
    out, kept = IMAGES.clone(), []
    for b in range(5):
        top, bottom, left, right = boxes[b if len(boxes) > 1 else 0]
        kept.append(1 - (bottom - top) * (right - left) / 54)
        for y in range(top, bottom):
            for x in range(left, right):
                out[b, :, y, x] = IMAGES[partner[b], :, y, x]
    return out, kept


@pytest.mark.parametrize("boxes", [BOXES[:1], BOXES])
def test_cutmix_matches_a_pixel_by_pixel_reference(boxes):
    mixed, target = CutMix().apply(IMAGES, LABELS, BoxPlan(PARTNER, boxes, (6, 9)))
    expected, kept = pasted_by_loops(PARTNER, boxes)
    assert torch.equal(mixed, expected)
    assert torch.equal(target.ids, torch.stack([LABELS, LABELS[PARTNER]], 1))
    assert target.weights[:, 0].tolist() == pytest.approx(kept)  # GLMC keeps the share drawn: .70 said, .50 pasted
    assert target.is_mixed().tolist() == [0 < k < 1 for k in kept]
    halves, _ = CutMix().apply(IMAGES.bfloat16(), LABELS, BoxPlan(PARTNER, boxes, (6, 9)))  # another path: a mask
    assert torch.equal(halves, expected.bfloat16())


def test_rows_keep_their_layout():
    index = torch.from_numpy(PARTNER)
    last = IMAGES.contiguous(memory_format=torch.channels_last)
    assert torch.equal(rows_of(IMAGES, index), IMAGES[index]) and torch.equal(rows_of(last, index), IMAGES[index])
    assert rows_of(last, index).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("box", "source"), [((0, 0, 0, 0), np.arange(5)), ((0, 6, 0, 9), PARTNER)])
def test_an_empty_box_is_identity_and_a_full_one_the_partner(box, source):
    mixed, target = CutMix().apply(IMAGES, LABELS, BoxPlan(PARTNER, np.array([box]), (6, 9)))
    assert torch.equal(mixed, IMAGES[source]) and not target.is_mixed().any()
    assert torch.equal((target.ids * target.weights).sum(1).long(), LABELS[source])


def test_mean_area_of_a_box_matches_its_closed_form():
    rng = np.random.default_rng(0)
    boxes = draw_boxes((64, 64), rng.random(6000), rng)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / 64**2
    # u = 1 - kept ~ U(0,1), side s = sqrt(u); a uniform centre keeps s (1 - s/4) per axis after clipping, so
    # E[area] = E[u (1 - sqrt(u)/4)^2] = 1/2 - 1/5 + 1/48 = 0.3208; rounding the side down takes about 1 % off it.
    # sd of one area is below 0.29: the mean of 6000 has 0.0037.
    assert area.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.018)


@pytest.mark.parametrize("per_row", [False, True])
def test_cutmix_mixes_the_share_of_steps_or_rows_it_says(per_row):
    mix, rng = CutMix(prob=0.3, per_row=per_row), np.random.default_rng(0)
    rows = np.zeros(10, dtype=np.int64)
    boxes = np.concatenate([mix.sample(torch.from_numpy(rows), (32, 32), rng).boxes for _ in range(3000)])
    assert len(boxes) == (30000 if per_row else 3000)
    # a box of a share near 0 can be empty by itself: below 1 % of draws at 32x32. kornia applies its p twice: 0.09
    assert boxes.any(1).mean() == pytest.approx(0.3, abs=0.035)  # sd 0.0084 and less
    assert not CutMix(prob=0.0).sample(LABELS, (32, 32), rng).boxes.any()
    if per_row:
        steps = boxes.reshape(3000, 10, 4).any(2)
        assert 0 < steps[:, 0].mean() < 1 and not (steps.all(1) == steps.any(1)).all()


def test_boxes_of_rows_are_drawn_apart():
    rng = np.random.default_rng(0)
    plan = CutMix(prob=1.0, per_row=True).sample(torch.zeros(64, dtype=torch.int64), (32, 32), rng)
    assert len(np.unique(plan.boxes, axis=0)) > 50  # CMO's authors draw one for the batch
    assert len(CutMix(prob=1.0).sample(LABELS, (32, 32), rng).boxes) == 1


def rule(labels=LABELS, counts=(2, 1, 2), **options):
    return Minority(labels, torch.tensor(counts), **options)


@pytest.mark.parametrize("boxes", [np.array([[0, 3, 0, 9]]), BOXES])
def test_cmo_pastes_donors_into_the_batch(boxes):
    donors = Donors(IMAGES.flip(0), torch.tensor([1, 1, 2, 0, 1]), np.arange(4, -1, -1), np.arange(5) == 2)
    mixed, target = CMO(LABELS, torch.bincount(LABELS), partner=rule()).apply(
        IMAGES, LABELS, BoxPlan(None, boxes, (6, 9)), donors
    )
    expected, kept = pasted_by_loops([4, 3, 2, 1, 0], boxes)
    assert torch.equal(mixed, expected)
    assert torch.equal(target.ids, torch.stack([LABELS, donors.labels], 1))
    assert target.weights[:, 0].tolist() == pytest.approx(kept)
    partly = (np.array(kept) > 0) & (np.array(kept) < 1)
    assert target.is_mixed().tolist() == (partly & (np.arange(5) != 2)).tolist()  # row 2 got its own image


@pytest.mark.parametrize("mix", [CutMix, Mixup, ResizeMix])
@pytest.mark.parametrize("per_row", [False, True])
def test_arms_that_differ_in_their_partners_share_all_other_draws(mix, per_row):
    for seed in range(20):
        own, foreign = (
            vars(m.sample(LABELS, (16, 12), np.random.default_rng(seed)))
            for m in (mix(per_row=per_row, prob=0.5), mix(per_row=per_row, prob=0.5, partner=rule()))
        )
        assert own.pop("partner") is not None and foreign.pop("partner") is None
        assert all(np.array_equal(own[key], foreign[key]) for key in own) and own


def test_donors_can_be_blended_too():
    donors = Donors(IMAGES.flip(0), torch.tensor([1, 1, 2, 0, 1]), np.arange(4, -1, -1), np.arange(5) == 2)
    mixed, target = Mixup(partner=rule()).apply(IMAGES, LABELS, BlendPlan(None, KEPT), donors)
    share = torch.from_numpy(KEPT)[:, None, None, None]
    torch.testing.assert_close(mixed, share * IMAGES + (1 - share) * IMAGES.flip(0))
    assert torch.equal(target.ids[:, 1], donors.labels)


def test_resizemix_pastes_the_whole_partner_made_small():
    for boxes in (np.array([[1, 4, 2, 6]]), BOXES):
        mixed, target = ResizeMix().apply(IMAGES, LABELS, BoxPlan(PARTNER, boxes, (6, 9)))
        for b in range(5):
            top, bottom, left, right = boxes[b if len(boxes) > 1 else 0]
            expected = IMAGES[b].clone()
            if bottom > top:
                partner = IMAGES[PARTNER[b] : PARTNER[b] + 1]
                small = torch.nn.functional.interpolate(
                    partner, (bottom - top, right - left), mode="bilinear", antialias=True
                )
                expected[:, top:bottom, left:right] = small[0]
            torch.testing.assert_close(mixed[b], expected)
            assert target.weights[b, 1].item() == pytest.approx((bottom - top) * (right - left) / 54)
    rng = np.random.default_rng(0)
    boxes = ResizeMix(prob=1.0, per_row=True).sample(torch.zeros(4000, dtype=torch.int64), (40, 20), rng).boxes
    down, across = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    assert (boxes >= 0).all() and boxes[:, 1].max() == 40 and boxes[:, 3].max() == 20
    assert down.min() == 4 and down.max() == 31 and across.min() == 2 and across.max() == 15
    # sides are int(length * U(.1, .8)): mean 18 - 1/2; sd of one 8.1, of the mean of 4000 0.13
    assert down.mean() == pytest.approx(17.5, abs=0.55)


def test_balanced_mixup_evens_out_the_batch():
    labels = torch.tensor([0] * 12 + [1] * 3 + [2])
    mix, rng, seen = BalancedMixup(), np.random.default_rng(0), np.zeros(3)
    for _ in range(600):
        plan = mix.sample(labels, (4, 4), rng)
        assert len(plan.rows) == 16 and sorted(plan.rows) == sorted(plan.partner)
        assert (plan.rows == plan.partner).mean() < 1  # partners are a permutation, not the rows themselves
        seen += np.bincount(labels[plan.rows], minlength=3)
    # 16 of 36 rows without replacement, 12 a class: hypergeometric, sd of a class's share in all 9600 draws is below .004
    assert seen / seen.sum() == pytest.approx(np.full(3, 1 / 3), abs=0.017)
    images = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    mixed, target = mix.apply(images, labels, plan)
    torch.testing.assert_close(mixed, plan.kept * images[plan.rows] + (1 - plan.kept) * images[plan.partner])
    assert target.ids.tolist() == [[labels[i].item(), labels[j].item()] for i, j in zip(plan.rows, plan.partner)]  # noqa: B905
    assert target.is_mixed().tolist() == [i != j for i, j in zip(plan.rows, plan.partner)]  # noqa: B905


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mixup(alpha=0.0), r"alpha must be > 0, got 0\.0"),
        (lambda: BalancedMixup(alpha=-1.0), r"alpha must be > 0, got -1\.0"),
        (lambda: CutMix(prob=1.5), r"prob must lie in \[0, 1\], got 1\.5"),
        (lambda: Remix(COUNTS, kappa=0.5), r"kappa must be >= 1, got 0\.5"),
        (lambda: Remix(COUNTS, tau=2.0), r"tau must lie in \[0, 1\], got 2\.0"),
        (lambda: Remix(torch.tensor([1, 0])), r"classes \[1\] have no images"),
        (lambda: ResizeMix(smallest=0.9), r"0 < smallest <= largest <= 1 must hold, got 0\.9 and 0\.8"),
        (
            lambda: CutMix(partner="minority"),
            r"partner must be a built rule here, as Minority\(labels, class_counts\), got 'minority'",
        ),
        (
            lambda: CMO(LABELS, torch.bincount(LABELS), partner=rule()).apply(
                IMAGES, LABELS, BoxPlan(None, BOXES[:1], (6, 9))
            ),
            "needs donors from the loader",
        ),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()

"""Policies, erasing and albumentations: parity with the libraries that do the operations, and with slow loops."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from divaug.base.contracts import complete
from divaug.config.registry import PIXEL
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.mix.none import NoMix
from divaug.pixel._erase import ErasePlan, erase, erase_one
from divaug.pixel._operations import OPERATIONS, augment_by_level
from divaug.pixel.albumentations import Albumentations
from divaug.pixel.by_class import ByClass
from divaug.pixel.chain import Chain
from divaug.pixel.crop_flip import CropFlip
from divaug.pixel.cuda import Cuda
from divaug.pixel.cutout import Cutout
from divaug.pixel.gaussian_noise import GaussianNoise
from divaug.pixel.levels import Levels
from divaug.pixel.random_erasing import RandomErasing

IMAGES = torch.randint(0, 256, (6, 32, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 3])
COUNTS = torch.tensor([100, 40, 25, 4])
NAMES = ["ant", "bee", "cat", "dog"]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("name", "options", "peer"),
    [
        ("randaugment", {"num_ops": 3, "magnitude": 12}, lambda v2: v2.RandAugment(num_ops=3, magnitude=12)),
        ("trivialaugment", {}, lambda v2: v2.TrivialAugmentWide()),
        ("autoaugment", {}, lambda v2: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
        ("augmix", {"severity": 2}, lambda v2: v2.AugMix(severity=2)),
        ("color_jitter", {"hue": 0.2}, lambda v2: v2.ColorJitter(0.4, 0.4, 0.4, 0.2)),
    ],
)
def test_policies_are_torchvisions_with_the_seed_of_the_row(name, options, peer):
    from torchvision.transforms import v2

    pixel = PIXEL.build(name, facts={}, **options)
    plan = pixel.sample(LABELS, (32, 24), rng())
    state = torch.get_rng_state()
    for i, image in enumerate(IMAGES.numpy()):
        torch.manual_seed(int(plan[i]))
        expected = np.asarray(peer(v2)(Image.fromarray(image)))
        assert (pixel.apply_one(image, plan, i) == expected).all()
    torch.set_rng_state(state)


def test_erasing_against_a_pixel_loop():
    boxes = np.array([[0, 5, 3, 9], [30, 32, 0, 24], [0, 0, 0, 0], [4, 4, 2, 9], [0, 32, 0, 24], [7, 8, 7, 8]])
    for fill in (128, -1):
        plan = ErasePlan(boxes, fill, np.arange(6))
        out = erase(IMAGES, plan)
        for i in range(6):
            top, bottom, left, right = boxes[i]
            inside = np.zeros((32, 24), dtype=bool)
            inside[top:bottom, left:right] = True
            assert (out[i].numpy()[~inside] == IMAGES[i].numpy()[~inside]).all()
            assert (out[i].numpy() == erase_one(IMAGES[i].numpy(), plan, i)).all()
            if fill == 128:
                assert (out[i].numpy()[inside] == 128).all()
    noise = erase(IMAGES, ErasePlan(np.tile([[0, 32, 0, 24]], (6, 1)), -1, np.arange(6))).double()
    # 13,824 uniform values of 0 to 255: mean 127.5, sd 73.9, of the mean 0.63
    assert noise.mean().item() == pytest.approx(127.5, abs=2.6) and len(noise.unique()) == 256


def test_cutout_is_a_square_of_the_stated_size_around_a_uniform_centre():
    plan = Cutout().sample(torch.zeros(8000, dtype=torch.int64), (32, 32), rng())
    down = plan.boxes[:, 1] - plan.boxes[:, 0]
    assert down.max() == 16 and down.min() == 8
    # centres 0..31 alike, clipped: the mean side is 16 - 2 * (1 + ... + 8) / 32 + 8 / 32 = 14
    sides = [min(c + 8, 32) - max(c - 8, 0) for c in range(32)]
    assert down.mean() == pytest.approx(np.mean(sides), abs=0.12)  # sd of one 2.6
    partly = Cutout(prob=0.25).sample(torch.zeros(8000, dtype=torch.int64), (32, 32), rng())
    assert partly.boxes.any(1).mean() == pytest.approx(0.25, abs=0.02)  # 4 sd


def test_random_erasing_has_the_area_and_shape_it_says():
    pixel = RandomErasing(prob=0.5, smallest=0.1, largest=0.3)
    boxes = pixel.sample(torch.zeros(8000, dtype=torch.int64), (64, 64), rng()).boxes
    erased = boxes.any(1)
    assert erased.mean() == pytest.approx(0.5, abs=0.023)  # 4 sd
    down, across = boxes[erased, 1] - boxes[erased, 0], boxes[erased, 3] - boxes[erased, 2]
    area = down * across / 64**2
    assert area.min() > 0.09 and area.max() < 0.31
    # U(.1, .3): mean 0.2, sd 0.058, of the mean of 4000 0.0009; 0.004 allows for rounding and for boxes that do not fit
    assert area.mean() == pytest.approx(0.2, abs=0.006)
    ratio = np.log(down / across)
    assert np.abs(ratio).max() < -np.log(0.3) + 0.1 and ratio.mean() == pytest.approx(0, abs=0.05)


def test_gaussian_noise_has_its_standard_deviation():
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    pixel = GaussianNoise(std=0.1)
    out = pixel.apply_one(grey, pixel.sample(LABELS, (64, 64), rng()), 0).astype(float)
    # sd 25.5 on 12,288 values: sd of the sd 0.16, of the mean 0.23
    assert out.std() == pytest.approx(25.5, abs=0.8) and out.mean() == pytest.approx(128, abs=1)
    assert (GaussianNoise(std=0.0).apply_one(grey, np.zeros(1, dtype=np.int64), 0) == grey).all()


def test_a_chain_is_its_steps_in_order_and_its_first_draws_are_those_it_would_have_alone():
    chain = PIXEL.build("crop_flip+cutout", facts={})
    plan = chain.sample(LABELS, (32, 24), rng(3))
    alone = CropFlip().sample(LABELS, (32, 24), rng(3))
    assert (plan[0].down == alone.down).all() and (plan[0].flipped == alone.flipped).all()
    once = CropFlip().apply(IMAGES, plan[0])
    assert torch.equal(chain.apply(IMAGES, plan), erase(once, plan[1]))
    slow = PIXEL.build("chain", facts={}, steps=["crop_flip", {"name": "levels", "level": 2}])
    assert chain.batched and not slow.batched
    plan = slow.sample(LABELS, (32, 24), rng(3))
    apart = np.stack([slow.apply_one(image, plan, i) for i, image in enumerate(IMAGES.numpy())])
    assert (slow.apply(IMAGES, plan).numpy() == apart).all()
    with pytest.raises(ValueError, match="steps holds Cuda, which learns its own strengths"):
        Chain(steps=[Cuda(LABELS, 4, weak=CropFlip())])


def test_operations_have_the_names_they_should_and_do_nothing_at_magnitude_zero():
    picture = Image.fromarray(IMAGES[0].numpy())
    assert len(OPERATIONS) == 22
    fixed = {"auto_contrast", "equalize", "flip", "invert", "mirror"}
    for name, operation in OPERATIONS.items():
        out = np.asarray(operation(picture, 0.0, rng()))
        if name not in fixed | {"solarize"}:
            assert np.abs(out.astype(int) - IMAGES[0].numpy()).max() <= 1, name
        strong = np.asarray(operation(picture, 1.0, rng()))
        assert strong.shape == (32, 24, 3) and (strong != IMAGES[0].numpy()).any(), name
    assert (np.asarray(OPERATIONS["mirror"](picture, 0.3, rng())) == IMAGES[0].numpy()[:, ::-1]).all()


def test_a_level_is_a_number_of_operations_at_a_magnitude():
    image = IMAGES[0].numpy()
    assert augment_by_level(image, 0, 5) is image
    draws, names = np.random.default_rng(5), list(OPERATIONS)
    expected = Image.fromarray(image)
    for number in draws.integers(22, size=4):
        expected = OPERATIONS[names[number]](expected, 4 / 30, draws)
    assert (augment_by_level(image, 4, 5) == np.asarray(expected)).all()
    assert (Levels(level=4).apply_one(image, np.array([5]), 0) == np.asarray(expected)).all()


def by_class(**options):
    facts = {"class_counts": COUNTS, "group_counts": COUNTS, "class_names": NAMES, "default_pixel": CropFlip()}
    return PIXEL.build("by_class", facts=facts, **options)


def test_policies_by_group_name_and_strength():
    pixel = by_class(policy={"tail": {"name": "cutout", "size_frac": 1.0, "fill": 7}, "bee": 0.0, "cat": "none"})
    # ranks: ant, bee are head; cat mid; dog tail
    plan = pixel.sample(LABELS, (32, 24), rng(1))
    seen = complete(pixel).apply(IMAGES, plan)
    weak = CropFlip().apply(IMAGES, CropFlip().sample(LABELS, (32, 24), rng(1)))
    for i, label in enumerate(LABELS.tolist()):
        if label == 3:
            assert (seen[i] == 7).float().mean() >= 0.25  # a square as large as the image, centred within it
        elif label == 2:
            assert torch.equal(seen[i], IMAGES[i])
        else:
            assert torch.equal(seen[i], weak[i])  # the draws of the default alone


def test_strength_by_count():
    pixel = by_class(power=0.5, max_level=10)
    # 1 - sqrt(n / 100): 0, 0.368, 0.5, 0.8
    levels = [0, 4, 5, 8]
    plan = pixel.sample(LABELS, (32, 24), rng(2))
    found = complete(pixel).apply(IMAGES, plan)
    weak = CropFlip().apply(IMAGES, CropFlip().sample(LABELS, (32, 24), rng(2)))
    for i, label in enumerate(LABELS.tolist()):
        seeds = plan.plans[plan.policy[i]]
        expected = weak[i].numpy() if label == 0 else augment_by_level(
            CropFlip().apply_one(IMAGES[i].numpy(), seeds[0], i), levels[label], int(seeds[1][i])
        )  # fmt: skip
        assert (found[i].numpy() == expected).all()
    assert torch.equal(
        complete(by_class(power=0.5, max_level=0)).apply(IMAGES, plan_of(by_class(power=0.5, max_level=0))), weak
    )


def plan_of(pixel):
    return pixel.sample(LABELS, (32, 24), rng(2))


@pytest.mark.parametrize("fill", [128, -1])
def test_a_box_beyond_a_picture_that_was_made_smaller_is_clipped(fill):
    small, plan = IMAGES[:, :10, :8], ErasePlan(np.tile([[6, 20, 5, 30]], (6, 1)), fill, np.arange(6))
    out = erase(small, plan)
    for i in range(6):
        assert (out[i].numpy() == erase_one(small[i].numpy(), plan, i)).all()
    assert torch.equal(out[:, :6], small[:, :6]) and not torch.equal(out[:, 6:, 5:], small[:, 6:, 5:])


def test_pictures_of_different_shapes_are_refused_by_name():
    class Odd:
        def sample(self, labels, size, rng):
            return None

        def apply_one(self, image, plan, i):
            return image[: 5 + i]

    with pytest.raises(ValueError, match=r"Odd gave images of different shapes: \[\(5, 24, 3\)"):
        complete(Odd()).apply(IMAGES, None)


def test_a_class_called_like_a_group_does_not_take_the_groups_policy():
    facts = {"class_counts": COUNTS, "group_counts": COUNTS, "class_names": ["tail", "b", "c", "d"]}
    pixel = PIXEL.build("by_class", facts=facts, policy={"tail": "cutout"}, rest="none")
    assert pixel.of_class.tolist() == [0, 0, 0, 1]


def run_update(pixel, right):
    """Update with a network that is right as ``right(c, level)`` says; return the class and size of its tests."""
    asked = []

    def pictures(rows):
        (c,) = np.unique(LABELS_BIG[rows])
        asked.append((int(c), len(rows)))
        return torch.zeros(len(rows), 4, 4, 3, dtype=torch.uint8)

    def predict(images):
        c, size = asked[-1]
        return torch.full((size,), c if right(c, size // 10 - 1) else (c + 1) % 4)

    pixel.update(pictures, predict, rng())
    return asked


LABELS_BIG = np.repeat(np.arange(4), [30, 10, 3, 1])


def cuda(**options):
    return Cuda(torch.from_numpy(LABELS_BIG), 4, weak=CropFlip(), **options)


def test_cuda_moves_levels_by_its_test():
    pixel = cuda(max_level=2)
    bears = {0: 9, 1: 1, 2: 0, 3: -1}
    asked = run_update(pixel, lambda c, level: level <= bears[c])
    assert pixel.levels.tolist() == [1, 1, 1, 0]  # class 3 fails at level 0 and stays at 0
    assert asked == [(0, 10), (1, 10), (2, 10), (3, 10)]
    asked = run_update(pixel, lambda c, level: level <= bears[c])
    assert asked == [(0, 10), (0, 20), (1, 10), (1, 20), (2, 10), (2, 20), (3, 10)]  # 10 (s + 1) at level s
    assert pixel.levels.tolist() == [2, 2, 0, 0]  # class 2 failed at its level 1
    run_update(pixel, lambda c, level: level <= bears[c])
    assert pixel.levels.tolist() == [2, 1, 1, 0]  # the largest level; class 1 failed at 2
    again = cuda(max_level=2)
    again.load_state_dict(json.loads(json.dumps(pixel.state_dict())))
    assert again.levels.tolist() == pixel.levels.tolist()
    with pytest.raises(ValueError, match="a copy sent to a worker can only apply"):
        run_update(pickle.loads(pickle.dumps(pixel)), lambda c, level: True)


def test_how_one_class_fares_does_not_change_the_draws_of_anothers_test():
    def drawn(levels):
        pixel, rows = cuda(max_level=2), {}
        pixel.levels[:] = levels

        def pictures(asked):
            rows.setdefault(int(LABELS_BIG[asked[0]]), []).append(asked.tolist())
            return torch.zeros(len(asked), 4, 4, 3, dtype=torch.uint8)

        pixel.update(pictures, lambda images: torch.full((len(images),), 3), rng())
        return rows

    assert drawn([0, 0, 0, 2])[3] == drawn([2, 1, 0, 2])[3] and len(drawn([0, 0, 0, 2])[3]) == 3


def test_cuda_augments_its_share_of_pictures_by_the_level_of_their_class():
    pixel = cuda(prob=0.5)
    pixel.levels = np.array([0, 3, 7, 10])
    labels = torch.arange(4).repeat(2000)
    plan = pickle.loads(pickle.dumps(pixel)).sample(labels, (32, 24), rng())
    by_label = [plan.levels[labels.numpy() == c] for c in range(4)]
    assert [set(levels) for levels in by_label] == [{0}, {0, 3}, {0, 7}, {0, 10}]
    assert all((levels > 0).mean() == pytest.approx(0.5, abs=0.045) for levels in by_label[1:])  # 4 sd
    plan = pixel.sample(LABELS, (32, 24), rng())
    weak = CropFlip().apply(IMAGES, CropFlip().sample(LABELS, (32, 24), rng()))
    for i in range(6):
        expected = augment_by_level(weak[i].numpy(), int(plan.levels[i]), int(plan.seeds[i]))
        assert (pixel.apply_one(IMAGES[i].numpy(), plan, i) == expected).all()


def saved_pipeline(path, *steps):
    import albumentations

    albumentations.save(albumentations.Compose(list(steps)), path)
    return str(path)


@pytest.mark.parametrize(("workers", "method"), [(0, None), (2, "fork"), (2, "spawn")])
def test_albumentations_draws_the_same_whatever_the_workers_and_never_repeats_an_epoch(workers, method, tmp_path):
    import albumentations

    file = saved_pipeline(
        tmp_path / "p.json", albumentations.HorizontalFlip(p=0.5), albumentations.RandomBrightnessContrast(p=1.0)
    )
    part = Part(np.tile(IMAGES.numpy()[:1], (24, 1, 1, 1)), np.zeros(24, dtype=np.int64))

    def epoch(number, **kwargs):
        loader = Loader(part, mean=(0.5,) * 3, std=(0.2,) * 3, batch_size=8, device=torch.device("cpu"), **kwargs)
        batches = loader.epoch(np.arange(24), pixel=Albumentations(file=file), mix=NoMix(), seed=0, epoch=number)
        return torch.cat([batch.images for batch in batches])

    here, there = epoch(0), epoch(0, streaming=True, workers=workers, start_method=method)
    assert torch.equal(here, there)
    assert not torch.equal(here, epoch(1, streaming=True, workers=workers, start_method=method))
    assert len(torch.unique(here, dim=0)) > 20  # 2.0.8 by itself gives every worker the same draws


def test_albumentations_default_is_a_flip_of_half():
    pixel = Albumentations()
    plan = pixel.sample(torch.zeros(400, dtype=torch.int64), (32, 24), rng())
    image = IMAGES[0].numpy()
    flipped = np.array([(pixel.apply_one(image, plan, i) == image[:, ::-1]).all() for i in range(400)])
    assert flipped.mean() == pytest.approx(0.5, abs=0.1)  # 4 sd
    assert all((pixel.apply_one(image, plan, i) == image).all() for i in np.flatnonzero(~flipped)[:20].tolist())


def test_what_is_wrong_with_a_pipeline_is_said(tmp_path):
    import albumentations

    with pytest.raises(ValueError, match=r"file 'nowhere.json' does not exist; albumentations.save"):
        Albumentations(file="nowhere.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a pipeline of albumentations"):
        Albumentations(file=str(tmp_path / "bad.json"))
    file = saved_pipeline(tmp_path / "n.json", albumentations.Normalize())
    with pytest.raises(ValueError, match="must return uint8 arrays, got float32: leave out Normalize"):
        Albumentations(file=file).apply_one(IMAGES[0].numpy(), np.array([1]), 0)
    saved_pipeline(tmp_path / "o.json", albumentations.GaussNoise())
    old = json.loads((tmp_path / "o.json").read_text())
    old["transform"]["transforms"][0]["var_limit"] = [10, 50]
    (tmp_path / "o.json").write_text(json.dumps(old))
    with pytest.raises(ValueError, match="var_limit"):
        Albumentations(file=str(tmp_path / "o.json"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cutout(size_frac=1.5), r"size_frac must lie in \[0, 1\], got 1\.5"),
        (lambda: Cutout(fill=300), r"fill must lie in 0 to 255, got 300"),
        (lambda: RandomErasing(smallest=0.5), r"0 < smallest <= largest <= 1 must hold, got 0\.5 and 0\.4"),
        (lambda: RandomErasing(aspect=0.0), r"aspect must lie in \(0, 1\], got 0\.0"),
        (lambda: GaussianNoise(std=-1.0), r"std must be >= 0, got -1\.0"),
        (lambda: Levels(level=31), r"level must lie in 0 to 30, got 31"),
        (lambda: by_class(max_level=5), "max_level has no effect without strengths"),
        (lambda: by_class(max_level=5, policy={"tail": "weak"}), "max_level has no effect without strengths"),
        (lambda: Chain(steps=[]), "steps must name at least one"),
        (lambda: cuda(threshold=2.0), r"threshold must lie in \[0, 1\], got 2\.0"),
        (lambda: cuda(samples=0), r"samples must be >= 1, got 0"),
        (lambda: ByClass(COUNTS, COUNTS, NAMES, policy={"lion": 0.5}, rest=CropFlip()), r"policy names \['lion'\]"),
        (lambda: ByClass(COUNTS, COUNTS, NAMES, policy={"ant": 2.0}, rest=CropFlip()), r"lie in \[0, 1\], got 2\.0 for ant"),
        (lambda: ByClass(COUNTS, COUNTS, NAMES, policy={"ant": cuda()}, rest=CropFlip()), "use it alone"),
        (lambda: PIXEL.build("autoaugment", facts={}, policy="mnist"), "policy must be one of imagenet, cifar10, svhn"),
        (lambda: PIXEL.build("randaugment", facts={}, magnitude=40), "magnitude must lie in 0 to 30, got 40"),
        (lambda: PIXEL.build("crop_flip+cutut", facts={}), "unknown pixel 'cutut'; did you mean 'cutout'"),
        (lambda: PIXEL.build("crop_flip+cutout", facts={}, prob=0.5), "has no option 'prob': name the step"),
        (lambda: PIXEL.build("chain", facts={}, steps=[{"name": "cutout", "sise": 1}]), "'cutout' has no 'sise'"),
    ],
)  # fmt: skip
def test_bad_values_are_named(build, message):
    from divaug.base.errors import ConfigError

    with pytest.raises((ValueError, ConfigError), match=message):
        build()


def test_names_of_other_libraries_are_their_policies():
    from torchvision.transforms import v2

    wide = PIXEL.build("torchvision:TrivialAugmentWide", facts={})
    assert isinstance(wide.built, v2.TrivialAugmentWide)
    plan = wide.sample(LABELS, (32, 24), rng(3))
    own = PIXEL.build("trivialaugment", facts={})
    assert torch.equal(wide.apply(IMAGES, plan), own.apply(IMAGES, plan))
    jitter = PIXEL.build("torchvision:ColorJitter", facts={}, options={"brightness": 0.4})
    assert jitter.built.brightness == (0.6, 1.4)
    chain = PIXEL.build("crop_flip+timm:rand-m9", facts={})
    assert [type(step).__name__ for step in chain.steps] == ["CropFlip", "Timm"] and chain.steps[1].policy == "rand-m9"
    for name, options, said in (
        ("torchvision:TrivialAugmentWid", {}, "did you mean 'TrivialAugmentWide'"),
        ("torchvision:ColorJitter", {"options": {"bright": 1}}, "ColorJitter cannot be built with"),
        ("timm:nonsense", {}, "timm knows no policy 'nonsense'"),
        ("cutout:0.5", {}, "unknown pixel 'cutout:0.5'"),
        ("timm:rand-m9", {"magnitude": 3}, "pixel 'timm:rand-m9' has no 'magnitude'"),
    ):
        with pytest.raises(ValueError, match=said):
            PIXEL.build(name, facts={}, **options)
    with pytest.raises(ValueError, match="ToImage returned Image, but only PIL images can be used here"):
        PIXEL.build("torchvision:ToImage", facts={}).apply(IMAGES, np.arange(len(IMAGES)))


def test_timm_moves_by_shares_of_the_image_and_leaves_the_global_generators_alone(global_rngs_untouched):
    import random

    pixel = PIXEL.build("timm:rand-m9", facts={})
    state = random.getstate()
    seen = pixel.apply(IMAGES, pixel.sample(LABELS, (32, 24), rng(3)))
    assert seen.shape == IMAGES.shape and not torch.equal(seen, IMAGES) and random.getstate() == state
    assert pixel._by_side.keys() == {32, 24}  # each side has its own

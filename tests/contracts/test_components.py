"""The conformance kit on every registered component, and on components that break each part of it."""

import random
import re
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch

from divaug.base.labels import MixedLabels
from divaug.config.registry import (
    CLASS_WEIGHTS,
    FEATURE,
    HEADS,
    LOSSES,
    MIX,
    PARTNERS,
    PIXEL,
    REGISTRIES,
    SAMPLERS,
)
from divaug.feature._memory import append_rows
from divaug.mix.cutmix import CutMix
from divaug.testing import CHECKS, check_component

OPTIONS = {"chain": {"steps": ["crop_flip", "cutout"]}, "isda": {"covariance": "full"}}
VARIANTS = [
    ("mix", "cutmix", {"per_row": True, "prob": 0.7}),
    ("mix", "mixup", {"per_row": True}),
    ("mix", "remix", {"partner": "minority"}),
    ("mix", "resizemix", {"per_row": True, "partner": "within_group"}),
    ("mix", "cmo", {"partner": {"name": "diverse", "k": 3}}),
    ("pixel", "by_class", {"policy": {"tail": "strong", "ant": 0.5}, "power": 0.5}),
    ("pixel", "default+cutout", {}),
    ("pixel", "torchvision:RandomPosterize", {"options": {"bits": 2}}),
    ("pixel", "timm:rand-m9-mstd0.5", {}),
    ("pixel", "timm:augmix-m5", {}),
    ("pixel", "timm:original", {}),
    ("feature", "isda", {"covariance": "low_rank"}),
    ("feature", "isda", {"covariance": "diagonal"}),
]
FILES = ("cifar10", "cifar100", "fashion_mnist", "mnist", "image_folder", "csv")  # data sets that need files
EVERY = [
    (family, name, OPTIONS.get(name, {}))
    for family in CHECKS
    for name in REGISTRIES[family].entries()
    if name not in FILES
]
PARTS = {
    "datasets": 2, "models": 3, "heads": 4, "samplers": 3, "losses": 5, "class_weights": 2, "pixel": 6, "mix": 6,
    "partners": 2, "feature": 6, "optim": 1, "posthoc": 2,
}  # fmt: skip


@pytest.mark.parametrize(("family", "name", "options"), EVERY + VARIANTS)
def test_it_keeps_its_familys_contract(family, name, options, facts):
    found = check_component(family, name, facts, options)
    assert len(found) - 1 == PARTS[family] == len(CHECKS[family])
    assert not [check for check in found if check.outcome == "fail"]
    notes = [check.name for check in found if check.outcome == "note"]
    assert notes == (["weights are shares"] if name == "remix" else [])


class Right:
    def sample(self, labels, size, rng):
        return rng.integers(0, 20, len(labels))

    def apply_one(self, image, plan, i):
        return image + plan[i].astype(np.uint8)


class Twin(Right):
    def apply(self, images, plan):
        return images + 1


class Forgetful(Right):
    def sample(self, labels, size, rng):
        return np.arange(len(labels)) % 20


class Global(Right):
    def sample(self, labels, size, rng):
        return np.random.randint(0, 20, len(labels))  # noqa: NPY002


class Same(Right):
    def sample(self, labels, size, rng):
        return np.full(len(labels), rng.integers(1, 20))


class Floats(Right):
    def apply_one(self, image, plan, i):
        return image / 2


class InPlace(Right):
    def apply_one(self, image, plan, i):
        image += 1
        return image


class Rate(Right):
    prob = 0.9

    def sample(self, labels, size, rng):
        return (rng.random(len(labels)) < 0.5).astype(np.int64)


class Idle(Right):
    def apply_one(self, image, plan, i):
        return image


class Seldom(Right):
    """Right: 2 % of rows."""

    def sample(self, labels, size, rng):
        return np.where(rng.random(len(labels)) < 0.02, rng.integers(1, 20, len(labels)), 0)


class Jitter(Right):
    """Right: all rows are shifted by -1, 0 or 1 each way, which can leave one as it is."""

    prob = 1.0

    def sample(self, labels, size, rng):
        return rng.integers(-1, 2, (len(labels), 2))

    def apply_one(self, image, plan, i):
        return np.roll(image, plan[i], (0, 1))


class SeldomTwin(Seldom):
    def sample(self, labels, size, rng):
        return np.where(rng.random(len(labels)) < 0.1, 3, 0)

    def apply(self, images, plan):
        return images + 2 * torch.from_numpy(plan).to(torch.uint8)[:, None, None, None]


@pytest.fixture
def registered(monkeypatch):
    def register(registry, factory):
        monkeypatch.setitem(registry._factories, "mine", factory)

    return register


def failures(family, facts):
    return {check.name: check.reason for check in check_component(family, "mine", facts, {}) if check.outcome == "fail"}


@pytest.mark.parametrize(
    ("factory", "name", "reason"),
    [
        (Twin, "batched equals one by one", "differ for equal plans"),
        (Forgetful, "epochs and rows differ", "two epochs get the same"),
        (Global, "replays", "something draws from another generator"),
        (Same, "epochs and rows differ", "all rows of a batch get the same"),
        (Floats, "shape and type", "must be uint8"),
        (InPlace, "replays", "modifies its input images"),
        (Rate, "rate", r"prob is 0.9, but 0\.\d+ of 1600 rows"),
        (Idle, "rate", "no row of 20 batches of 400 is changed"),
        (SeldomTwin, "batched equals one by one", "differ for equal plans"),
    ],
)
def test_broken_pixel_components_are_found(factory, name, reason, facts, registered):
    registered(PIXEL, factory)
    found = failures("pixel", facts)
    assert name in found
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found[name])


@pytest.mark.parametrize("factory", [Right, Seldom, Jitter])
def test_right_pixel_components_pass(factory, facts, registered):
    registered(PIXEL, factory)
    assert not failures("pixel", facts)


class Blend:
    """Mixes a quarter of the next row in; subclasses each break one thing."""

    share = 0.25

    def sample(self, labels, size, rng):
        return int(rng.integers(1, 6))

    def apply(self, images, labels, plan, donors=None):
        out = (1 - self.share) * images + self.share * images.roll(plan, 0)
        return out.to(images.dtype), self.label(labels, labels.roll(plan))

    def label(self, a, b):
        return MixedLabels(torch.stack([a, b], 1), torch.tensor([[1 - self.share, self.share]]).expand(len(a), 2))


class TooMuch(Blend):
    def label(self, a, b):
        return MixedLabels(torch.stack([a, b], 1), torch.tensor([[0.75, 0.75]]).expand(len(a), 2))


class NoClass(Blend):
    def label(self, a, b):
        return super().label(a + 4, b)


class Dense(Blend):
    def label(self, a, b):
        return torch.nn.functional.one_hot(a, 4).float()


class Halves(Blend):
    def apply(self, images, labels, plan, donors=None):
        return images[:1], self.label(labels, labels)


class Drawn(Blend):
    def apply(self, images, labels, plan, donors=None):
        out, target = super().apply(images, labels, plan)
        return out + torch.randn(1), target


class Wrong(Blend):
    def label(self, a, b):
        return MixedLabels(torch.stack([a, b], 1), torch.tensor([[0.5, 0.5]]).expand(len(a), 2))


class Module(Blend):
    def apply(self, images, labels, plan, donors=None):
        out, target = super().apply(images, labels, plan)
        return out * random.random(), target


class Layout(Blend):
    def apply(self, images, labels, plan, donors=None):
        out, target = super().apply(images, labels, plan)
        return out if images.is_contiguous() else torch.zeros_like(out), target


class Often(Blend):
    """Half of the steps, always the same blend."""

    prob = 0.5

    def sample(self, labels, size, rng):
        return int(rng.random() < self.prob)


class PerRow(CutMix):
    """Says 0.9 of rows, mixes a tenth."""

    def __init__(self):
        super().__init__(per_row=True, prob=0.1)
        self.prob_drawn, self.prob = 0.1, 0.9

    def draw_pairs(self, rows, rng):
        return rng.permutation(rows), rng.random(rows) < self.prob_drawn


@pytest.mark.parametrize(
    ("factory", "name", "reason"),
    [
        (Module, "replays", "pure function of the draw"),
        (Layout, "replays", "memory layout"),
        (Often, "steps differ and rate", "all steps give the same batch"),
        (PerRow, "steps differ and rate", r"prob is 0.9, but 0\.\d+ of rows are mixed"),
        (TooMuch, "label weights", "sum to 1.5"),
        (NoClass, "label weights", "a label is not a class"),
        (Dense, "shape and type", "labels of type Tensor"),
        (Halves, "shape and type", r"returns images \(1, 3, 12, 9\)"),
        (Drawn, "replays", "pure function of the draw"),
    ],
)
def test_broken_mixes_are_found(factory, name, reason, facts, registered):
    registered(MIX, factory)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failures("mix", facts)[name])


@pytest.mark.parametrize("options", [{"prob": 1.0, "alpha": 0.2}, {"prob": 0.05}, {"prob": 0.05, "per_row": True}])
def test_right_mixes_of_any_rate_pass(options, facts, registered):
    registered(MIX, lambda: CutMix(**options))
    assert not failures("mix", facts)


def test_labels_that_are_no_shares_are_noted(facts, registered):
    registered(MIX, Blend)
    assert [c.outcome for c in check_component("mix", "mine", facts, {})].count("pass") == 7
    registered(MIX, Wrong)
    assert [c.name for c in check_component("mix", "mine", facts, {}) if c.outcome == "note"] == ["weights are shares"]


class Shrink(torch.nn.Module):
    """Counts its calls outside a buffer, works in eval() too, and cuts the gradient."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, z, target, rng):
        self.calls += 1
        return z.detach() * self.calls, target


def test_broken_feature_components_are_found(facts, registered):
    registered(FEATURE, Shrink)
    found = failures("feature", facts)
    assert "kept outside buffers" in found["state"]
    assert "changes embeddings in eval()" in found["identity in evaluation"]
    assert "gradient" in found["gradient"]
    assert set(found) == {"state", "identity in evaluation", "gradient"}


class Foreign(torch.nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, z, target, rng):
        return append_rows(z, target, z[:1], torch.tensor([99]))


def test_synthetic_rows_of_no_class_are_found(facts, registered):
    registered(FEATURE, Foreign)
    assert "a label is not a class" in failures("feature", facts)["shape and labels"]


class Doubtful(torch.nn.Module):
    """A loss whose subclasses each break one thing."""

    def forward(self, logits, ids):
        return torch.nn.functional.cross_entropy(logits.float(), ids, reduction="none")


class Column(Doubtful):
    def forward(self, logits, ids):
        return super().forward(logits, ids)[:, None]


class Mean(Doubtful):
    def forward(self, logits, ids):
        return super().forward(logits, ids).mean()


class Cut(Doubtful):
    def forward(self, logits, ids):
        return super().forward(logits.detach(), ids)


class Low(Doubtful):
    def forward(self, logits, ids):
        return super().forward(logits, ids).to(logits.dtype)


class Ranked(Doubtful):
    def forward(self, logits, ids):
        loss = super().forward(logits, ids)
        return loss / loss.detach().max()


class Huge(Doubtful):
    def forward(self, logits, ids):
        return logits.exp().sum(1) - logits.gather(1, ids[:, None])[:, 0]


class Loose(Doubtful):
    def __init__(self):
        super().__init__()
        self.table = torch.ones(4)


@pytest.mark.parametrize(
    ("factory", "name", "reason"),
    [
        (Column, "one loss per row", r"returns \(1, 1\) for 1 rows"),
        (Mean, "one loss per row", r"returns \(\) for 1 rows"),
        (Cut, "finite with gradient", "gradient to the logits is cut off"),
        (Low, "float32 under autocast", "bfloat16 under autocast"),
        (Ranked, "rows apart", "depends on the other rows"),
        (Huge, "finite with gradient", "not finite for logits of about 100"),
        (Loose, "state", "not buffers"),
        (lambda: lambda logits, ids: logits[:, 0], "one loss per row", "not an nn.Module"),
    ],
)
def test_broken_losses_are_found(factory, name, reason, facts, registered):
    registered(LOSSES, factory)
    assert re.search(reason, failures("losses", facts)[name])


class Uneven:
    """A sampler; subclasses each break one thing."""

    def draw(self, generator, progress):
        return torch.from_numpy(generator.integers(0, 68, 68))

    def class_probs(self, progress):
        return torch.tensor([40.0, 20.0, 6.0, 2.0]) / 68


class Few(Uneven):
    def draw(self, generator, progress):
        return super().draw(generator, progress)[:60]


class Int32(Uneven):
    def draw(self, generator, progress):
        return super().draw(generator, progress).int()


class Beyond(Uneven):
    def draw(self, generator, progress):
        return super().draw(generator, progress) + 1


class Fixed(Uneven):
    def draw(self, generator, progress):
        return torch.arange(68)


class Claims(Uneven):
    def class_probs(self, progress):
        return torch.full((4,), 0.25)


class Sums(Uneven):
    def class_probs(self, progress):
        return super().class_probs(progress) * 2


@pytest.mark.parametrize(
    ("factory", "name", "reason"),
    [
        (Few, "positions", "draws 60 images of 68"),
        (Int32, "positions", "torch.int32"),
        (Beyond, "positions", "outside the training cut"),
        (Fixed, "replay", "two epochs get the same draws"),
        (Claims, "declared shares", r"class 0 has 0\.\d+ of the draws, but class_probs says 0.250"),
        (Sums, "declared shares", "sum to 1"),
    ],
)
def test_broken_samplers_are_found(factory, name, reason, facts, registered):
    registered(SAMPLERS, factory)
    assert re.search(reason, failures("samplers", facts)[name])
    registered(SAMPLERS, Uneven)
    assert not failures("samplers", facts)


def test_broken_class_weights_and_heads_are_found(facts, registered):
    for weights, reason in (
        (torch.zeros(4), "all weights are 0"),
        (torch.tensor([1.0, -1, 1, 1]), ">= 0"),
        (torch.ones(3), r"\(3,\) for 4 classes"),
        ([1.0] * 4, "list instead of a tensor"),
    ):
        registered(CLASS_WEIGHTS, partial(lambda given: given, weights))
        assert re.search(reason, failures("class_weights", facts)["one weight per class"])

    class Turned(torch.nn.Linear):
        scale = 1.0

        def __init__(self):
            super().__init__(8, 4)

        def factors(self, z):
            return z, self.weight.flip(0)

    registered(HEADS, Turned)
    assert set(failures("heads", facts)) == {"factors"}


def test_whatever_a_component_does_there_is_a_report(facts, registered, monkeypatch):
    monkeypatch.setattr("divaug.testing.kit.SECONDS", 0.3)

    class Endless(Right):
        def apply_one(self, image, plan, i):
            while True:
                try:
                    time.sleep(0.01)
                except Exception:
                    raise

    class Exits(Right):
        def apply_one(self, image, plan, i):
            sys.exit(0)

    class Nothing(Right):
        def apply_one(self, image, plan, i):
            return None

    for factory, reason in ((Endless, "takes longer than 0.3 s"), (Exits, "raises SystemExit"), (Nothing, "raises")):
        registered(PIXEL, factory)
        assert reason in failures("pixel", facts)["shape and type"]
        assert len(check_component("pixel", "mine", facts, {})) == 7

    def unbuildable():
        raise RuntimeError("boom")

    registered(PIXEL, unbuildable)
    (only,) = check_component("pixel", "mine", facts, {})
    assert (only.name, only.outcome, only.reason) == ("build", "fail", "pixel 'mine' raised RuntimeError: boom")


def test_broken_partner_rules_are_found(facts, registered):
    class Outside:
        def draw(self, labels, rng):
            return torch.full((len(labels),), 68)

    registered(PARTNERS, Outside)
    assert "outside the training cut" in failures("partners", facts)["indices"]

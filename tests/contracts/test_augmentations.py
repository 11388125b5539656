"""The conformance kit on every registered augmentation, and on components that break each part of it."""

import numpy as np
import pytest
import torch

from divaug.conformance import CHECKS, check_component
from divaug.labels import MixedLabels
from divaug.registry import FEATURE, MIX, PARTNERS, PIXEL, REGISTRIES

OPTIONS = {"chain": {"steps": ["crop_flip", "cutout"]}, "isda": {"covariance": "full"}}
VARIANTS = [
    ("mix", "cutmix", {"per_row": True, "prob": 0.7}),
    ("mix", "mixup", {"per_row": True}),
    ("mix", "remix", {"partner": "minority"}),
    ("mix", "resizemix", {"per_row": True, "partner": "within_group"}),
    ("mix", "cmo", {"partner": {"name": "diverse", "k": 3}}),
    ("pixel", "by_class", {"policy": {"tail": "strong", "ant": 0.5}, "power": 0.5}),
    ("pixel", "default+cutout", {}),
    ("feature", "isda", {"covariance": "low_rank"}),
    ("feature", "isda", {"covariance": "diagonal"}),
]
EVERY = [(family, name, OPTIONS.get(name, {})) for family in CHECKS for name in REGISTRIES[family].entries()]


@pytest.mark.parametrize(("family", "name", "options"), EVERY + VARIANTS)
def test_it_keeps_its_familys_contract(family, name, options, facts):
    found = check_component(family, name, facts, options)
    assert len(found) == {"pixel": 6, "mix": 6, "feature": 6, "partners": 2}[family] == len(CHECKS[family])
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
        (Global, "replays", "something draws by itself"),
        (Same, "epochs and rows differ", "all rows of a batch get the same"),
        (Floats, "shape and type", "must be uint8"),
        (InPlace, "replays", "modifies the pictures"),
        (Rate, "rate", r"prob is 0.9, but 0\.\d+ of 400 rows"),
        (Idle, "rate", "no row of 400 is changed"),
    ],
)
def test_broken_pixel_components_are_found(factory, name, reason, facts, registered):
    registered(PIXEL, factory)
    found = failures("pixel", facts)
    assert name in found
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found[name])


def test_a_right_pixel_component_passes(facts, registered):
    registered(PIXEL, Right)
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


@pytest.mark.parametrize(
    ("factory", "name", "reason"),
    [
        (TooMuch, "label weights", "sum to 1.5"),
        (NoClass, "label weights", "a label is no class"),
        (Dense, "shape and type", "labels of type Tensor"),
        (Halves, "shape and type", r"returns pictures \(1, 3, 12, 9\)"),
        (Drawn, "replays", "pure function of the draw"),
    ],
)
def test_broken_mixes_are_found(factory, name, reason, facts, registered):
    registered(MIX, factory)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failures("mix", facts)[name])


def test_labels_that_are_no_shares_are_noted(facts, registered):
    registered(MIX, Blend)
    assert [c.outcome for c in check_component("mix", "mine", facts, {})].count("pass") == 6
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


def test_broken_partner_rules_are_found(facts, registered):
    class Outside:
        def draw(self, labels, rng):
            return torch.full((len(labels),), 68)

    registered(PARTNERS, Outside)
    assert "outside the training cut" in failures("partners", facts)["indices"]

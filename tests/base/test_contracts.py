"""What ``complete`` adds, and that components made by hand work with their own defaults or say at once what to do."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from divaug.base.contracts import built, complete
from divaug.base.errors import ConfigError
from divaug.mix.cmo import CMO
from divaug.mix.cutmix import CutMix
from divaug.mix.partners.minority import Minority
from divaug.models.network import Network
from divaug.pixel.by_class import ByClass
from divaug.pixel.chain import Chain
from divaug.pixel.crop_flip import CropFlip
from divaug.pixel.cuda import Cuda
from divaug.pixel.cutout import Cutout
from divaug.pixel.gaussian_noise import GaussianNoise
from divaug.pixel.none import NoPixel
from divaug.pixel.strong import strong
from divaug.pixel.weak import weak

LABELS, COUNTS = torch.tensor([0, 0, 0, 1]), torch.tensor([3, 1])
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8))


class Plus:
    """A pixel component with what it must have and no more."""

    def sample(self, labels, size, rng):
        return rng.integers(1, 9, len(labels))

    def apply_one(self, image, plan, i):
        return image // 2 + np.uint8(plan[i])


@dataclass(frozen=True)
class Frozen(Plus):
    amount: int = 3

    def apply(self, images, plan):
        return images


class PlainMix:
    def sample(self, labels, size, rng):
        return None

    def apply(self, images, labels, plan, donors=None):
        return images, labels


class Slots:
    __slots__ = ()

    def sample(self, labels, size, rng):
        return None

    def apply_one(self, image, plan, i):
        return image


def test_a_pixel_component_goes_image_by_image_and_learns_nothing():
    pixel = complete(Plus())
    plan = pixel.sample(LABELS, (6, 5), np.random.default_rng(1))
    wanted = np.stack([pixel.apply_one(image, plan, i) for i, image in enumerate(IMAGES.numpy())])
    assert (pixel.apply(IMAGES, plan).numpy() == wanted).all()
    assert (pixel.batched, pixel.learns, pixel.prob, len(pixel.levels)) == (False, False, None, 0)
    assert pixel.update(None, None, None) is None and pixel.state_dict() == {} and pixel.load_state_dict({}) is None
    copy = pickle.loads(pickle.dumps(pixel))  # it goes to worker processes
    assert (copy.apply(IMAGES, plan).numpy() == wanted).all()
    assert complete(pixel) is pixel and not pixel.batched  # a second time changes nothing


def test_what_is_there_stays():
    frozen = complete(Frozen())
    assert frozen.batched and frozen.apply(IMAGES, None) is IMAGES and frozen.amount == 3
    cuda = complete(Cuda(LABELS, 2, weak=NoPixel()))
    assert cuda.learns and not cuda.batched and cuda.prob == 0.5 and cuda.levels.tolist() == [0, 0]


def test_a_mix_asks_for_no_donors_and_is_made_of_its_own_rows():
    mix = complete(PlainMix())
    assert mix.donors(LABELS, None) is None and mix.made_of(None, 4).tolist() == [0, 1, 2, 3]
    assert mix.prob is None and mix.per_row is False
    assert complete(CutMix()).donors(LABELS, np.random.default_rng(0)) is None
    ruled = complete(CutMix(partner=Minority(LABELS, COUNTS)))
    assert ruled.donors(LABELS, np.random.default_rng(0)).shape == (4,)


def test_a_backbone_of_anyones_starts_as_it_is():
    class Backbone(nn.Module):
        feature_dim = 2

        def forward(self, images):
            return images.mean((2, 3))

    network = Network(Backbone(), nn.Linear(2, 2))
    assert network.backbone.initialize([torch.zeros(1, 2, 3, 3)]) is None
    assert network(torch.zeros(1, 2, 3, 3)).shape == (1, 2)


def test_slots_and_half_a_learner_are_refused():
    with pytest.raises(ConfigError, match="Slots must take new attributes"):
        complete(Slots())

    class Learner(Plus):
        def update(self, images, predict, rng):
            pass

    with pytest.raises(ConfigError, match="Learner has update, so it needs levels, state_dict, load_state_dict too"):
        complete(Learner())


def test_components_by_hand_work_with_their_own_defaults():
    cmo = CMO(LABELS, COUNTS)
    drawn = cmo.donors(LABELS, np.random.default_rng(3))
    assert drawn.tolist() == Minority(LABELS, COUNTS).draw(LABELS, np.random.default_rng(3)).tolist()
    chain = Chain(steps=[CropFlip(), Cutout()])
    assert chain.batched and not Chain(steps=[CropFlip(), Plus()]).batched
    plan = chain.sample(LABELS, (6, 5), np.random.default_rng(0))
    assert chain.apply(IMAGES, plan).shape == IMAGES.shape


@pytest.mark.parametrize("batched", [True, False])
def test_classes_by_hand_are_augmented_by_their_policies(batched):
    policy = Cutout() if batched else GaussianNoise(std=0.3)
    ours = ByClass(COUNTS, COUNTS, ["ant", "bee"], policy={"bee": policy}, rest=NoPixel())
    assert ours.batched is batched
    plan = ours.sample(LABELS, (6, 5), np.random.default_rng(0))
    seen = complete(ours).apply(IMAGES, plan)
    assert torch.equal(seen[:3], IMAGES[:3]) and not torch.equal(seen[3], IMAGES[3])
    assert (seen[3].numpy() == ours.apply_one(IMAGES[3].numpy(), plan, 3)).all()


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: ByClass(COUNTS, COUNTS, ["ant", "bee"]), "rest"),
        (lambda: Cuda(LABELS, 2), "weak"),
        (strong, "augmentation"),
        (weak, "augmentation"),
        (lambda: built({"name": "cutout"}, "rest"), "rest"),
    ],
)
def test_names_are_for_the_registry(make, option):
    with pytest.raises(ValueError, match=rf"{option} must be a built component here, as CropFlip\(\), got"):
        make()

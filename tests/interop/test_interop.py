import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FakeData

import divaug
from divaug.base.errors import ConfigError, DataError
from divaug.base.labels import MixedLabels
from divaug.base.rng import stream
from divaug.config.schema import config_fields
from divaug.data.longtail import PROFILES, SUBSETS, cut
from divaug.interop import Sampler, Transform, mix_batch, soft_cross_entropy
from divaug.losses import Focal
from divaug.mix import CMO, CutMix, Mixup
from divaug.pixel import ByClass, Chain, Cutout, GaussianNoise, NoPixel
from divaug.samplers import Oversample, ProgressivelyBalanced, Uniform

LABELS = torch.arange(300) % 3


class Named:
    """A data set as torchvision's: (image, label) and ``targets``."""

    classes = ("a", "b", "c")

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return i, self.targets[i]


@pytest.mark.parametrize(
    "kind", [Named(LABELS.tolist()), Named(LABELS.numpy()), TensorDataset(torch.arange(300), LABELS)]
)
def test_a_cut_of_any_data_set_is_divaugs_own(kind):
    ours = divaug.long_tail(kind, imbalance_factor=10)
    wanted = cut(LABELS.numpy(), 3, factor=10.0)
    assert ours.indices == wanted.indices.tolist() and ours.counts == wanted.counts.tolist() == [100, 31, 10]
    assert len(ours) == 141 and np.bincount(ours.labels).tolist() == ours.counts
    assert [int(ours[i][1]) for i in range(len(ours))] == ours.labels.tolist()
    assert ours.manifest["cut_indices_sha256"] == wanted.sha256 and ours.manifest["imbalance_factor"] == 10
    nested = divaug.long_tail(kind, 10, subset="nested", seed=3, class_order="reversed")
    assert nested.counts == [10, 31, 100] and nested.indices != ours.indices
    assert divaug.long_tail(kind, profile="custom", counts=[5, 6, 7]).counts == [5, 6, 7]
    natural = divaug.long_tail(kind, profile="natural", imbalance_factor=50).manifest
    assert natural["imbalance_factor"] is natural["class_order"] is None  # it has neither, whatever was said
    assert (nested.manifest["imbalance_factor"], nested.manifest["class_order"]) == (10, "reversed")


def test_labels_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"labels must be whole numbers >= 0, one per image, got float64"):
        divaug.long_tail(Named([0.5, 1.0]))
    with pytest.raises(DataError, match="use a factor of at most 100"):
        divaug.long_tail(Named(LABELS.tolist()), imbalance_factor=1000)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"profile": "expo"}, "unknown profile 'expo'; did you mean 'exp'"),
        ({"subset": "litterature"}, "unknown subset 'litterature'; did you mean 'literature'"),
        ({"class_order": "reverse"}, "class_order must be native, reversed or permuted:SEED, got 'reverse'"),
        ({"imbalance_factor": 0}, "imbalance_factor must be >= 1, got 0"),
        ({"imbalance_factor": float("nan")}, "imbalance_factor must be >= 1"),
        ({"counts": [5, 4, 3]}, "counts go with profile custom"),
        ({"profile": "custom"}, "counts go with profile custom"),
    ],
)
def test_a_cut_that_cannot_be_meant_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        divaug.long_tail(Named(LABELS.tolist()), **wrong)


def test_the_profiles_are_those_of_the_configuration():
    keys = config_fields()
    assert (keys["profile"].metadata["choices"], keys["subset"].metadata["choices"]) == (PROFILES, SUBSETS)


def test_labels_of_a_parent_are_refused():
    data = torch.utils.data.Subset(Named(LABELS.tolist()), range(150))
    data.targets = LABELS.tolist()
    with pytest.raises(ValueError, match="150 items but 300 labels: those of a parent"):
        divaug.long_tail(data, 10)


def test_ranks_do_as_many_steps():
    sampler = Uniform(LABELS[:100], torch.bincount(LABELS[:100]))
    one = list(Sampler(sampler))
    ranks = [list(Sampler(sampler, rank=rank, world_size=3)) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [34, 34, 34]
    assert [index for position in zip(*ranks, strict=True) for index in position] == one + one[:2]


def test_a_transform_that_needs_the_label_asks_for_it():
    pixel = ByClass(torch.tensor([9, 1]), torch.tensor([9, 1]), ["a", "b"], policy={"b": Cutout()}, rest=NoPixel())
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"Chain treats classes differently"):
        Transform(Chain(steps=[NoPixel(), Chain(steps=[pixel])]))(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"ByClass treats classes differently: call transform\(image, label\)"):
        Transform(pixel)(image)
    assert Transform(pixel)(image, 1)[1] == 1


def test_a_target_transform_is_applied_to_labels_as_to_items():
    data = FakeData(60, (3, 4, 4), 3, target_transform=lambda label: 2 - label)
    data.targets = [int(FakeData(60, (3, 4, 4), 3)[i][1]) for i in range(60)]
    cut_data = divaug.long_tail(data, 3)
    assert [int(cut_data[i][1]) for i in range(len(cut_data))] == cut_data.labels.tolist()


@pytest.mark.parametrize("world_size", [1, 3])
def test_ranks_share_one_draw(world_size):
    source = Oversample(LABELS, torch.bincount(LABELS))
    ranks = [Sampler(source, seed=4, epochs=5, rank=r, world_size=world_size) for r in range(world_size)]
    for epoch in (0, 2):
        for rank in ranks:
            rank.set_epoch(epoch)
        whole = source.draw(stream(4, "sampler", epoch), epoch / 5).tolist()
        parts = [list(rank) for rank in ranks]
        assert sorted(i for part in parts for i in part) == sorted(whole) and parts[0] == whole[::world_size]
        assert [len(rank) for rank in ranks] == [len(part) for part in parts]
    loader = DataLoader(TensorDataset(LABELS), batch_size=50, sampler=ranks[0])
    assert torch.cat([ids for (ids,) in loader]).tolist() == LABELS[whole[::world_size]].tolist()


def test_a_sampler_is_told_how_far_training_is():
    class Told(Uniform):
        def draw(self, rng, progress):
            told.append(progress)
            return super().draw(rng, progress)

    told = []
    sampler = Sampler(Told(LABELS, torch.bincount(LABELS)), epochs=4)
    for epoch in (0, 3, 9):
        sampler.set_epoch(epoch)
        next(iter(sampler))
    assert told == [0.0, 0.75, 0.75]
    for rank, world_size in ((1, 1), (-1, 2)):
        with pytest.raises(ValueError, match="rank must lie in"):
            Sampler(Uniform(LABELS, torch.bincount(LABELS)), rank=rank, world_size=world_size)


def test_a_sampler_that_changes_over_training_asks_for_its_length():
    """Without it every epoch would be drawn as the first."""
    labels = torch.tensor([0] * 9 + [1] * 3)
    counts = torch.bincount(labels)
    changing, same = Sampler(ProgressivelyBalanced(labels, counts)), Sampler(Oversample(labels, counts))
    for sampler in (changing, same):
        assert len(list(sampler)) > 0  # the first epoch depends on no number
        sampler.set_epoch(5)
    assert len(list(same)) > 0
    with pytest.raises(ValueError, match=r"changes over training: give Sampler the number of epochs, epochs=N"):
        list(changing)
    told = Sampler(ProgressivelyBalanced(labels, counts), epochs=6)
    told.set_epoch(5)
    drawn = ProgressivelyBalanced(labels, counts).draw(stream(0, "sampler", 5), 5 / 6)
    first = ProgressivelyBalanced(labels, counts).draw(stream(0, "sampler", 5), 0.0)
    assert list(told) == drawn.tolist() != first.tolist()

    class Back(Uniform):  # changes in between, and comes back
        def class_probs(self, progress):
            assert 0 <= progress < 1  # the contract
            return torch.tensor([1.0, 0.0]) if progress == 0.5 else super().class_probs(progress)

    back = Sampler(Back(labels, counts))
    back.set_epoch(1)
    with pytest.raises(ValueError, match="changes over training"):
        list(back)


def test_a_transform_gives_back_what_it_was_given():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    noise = Transform(GaussianNoise(std=0.2))
    tensor, image = torch.from_numpy(pixels).permute(2, 0, 1), Image.fromarray(pixels)
    torch.manual_seed(3)
    seen = noise(tensor)
    torch.manual_seed(3)
    again = noise(image)
    assert seen.dtype == torch.uint8 and seen.shape == (3, 9, 7) and not torch.equal(seen, tensor)
    assert isinstance(again, Image.Image) and (np.asarray(again) == seen.permute(1, 2, 0).numpy()).all()
    assert not torch.equal(noise(tensor), noise(tensor))  # draws anew
    grey = Transform(Cutout())(Image.fromarray(pixels[:, :, 0]))
    assert grey.mode == "L" and grey.size == (7, 9)
    for wrong in (tensor.float(), pixels, torch.zeros(2, 5, 5, dtype=torch.uint8)):
        with pytest.raises(TypeError, match="expected a PIL image or uint8"):
            noise(wrong)


def test_a_transform_hands_the_label_on():
    counts = torch.tensor([9, 1])
    policy = ByClass(counts, counts, ["ant", "bee"], policy={"bee": Cutout()}, rest=NoPixel())
    transform, image = Transform(policy), torch.full((3, 8, 8), 7, dtype=torch.uint8)
    assert torch.equal(transform(image, 0)[0], image) and transform(image, 0)[1] == 0
    assert any(not torch.equal(transform(image, 1)[0], image) for _ in range(5))


def test_it_stands_among_torchvisions_own():
    from torchvision.transforms import v2

    compose = v2.Compose([Transform(Cutout()), v2.ToDtype(torch.float32, scale=True)])
    assert compose(torch.zeros(3, 8, 8, dtype=torch.uint8)).dtype == torch.float32


def test_a_batch_is_mixed_as_by_hand():
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    mix = CutMix(prob=1.0)
    out, target = mix_batch(images, labels, mix, rng=np.random.default_rng(5))
    plan = mix.sample(labels, (8, 8), np.random.default_rng(5))
    wanted, wanted_target = mix.apply(images, labels, plan)
    assert torch.equal(out, wanted) and torch.equal(target.weights, wanted_target.weights)
    torch.manual_seed(1)
    first = mix_batch(images, labels, Mixup())[0]
    torch.manual_seed(1)
    assert torch.equal(first, mix_batch(images, labels, Mixup())[0])
    assert not torch.equal(first, mix_batch(images, labels, Mixup())[0])


def test_partners_from_the_training_set_come_from_the_pool():
    known = torch.tensor([0, 0, 0, 0, 1])
    mix = CMO(known, torch.bincount(known), prob=1.0)
    images, labels = torch.zeros(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64)
    pool = torch.arange(5.0)[:, None, None, None].expand(5, 1, 8, 8) + 1
    with pytest.raises(ValueError, match=r"CMO takes partners from the training set: give pool=\(images, labels\)"):
        mix_batch(images, labels, mix)
    rng = np.random.default_rng(2)
    drawn = mix.donors(labels, np.random.default_rng(2))
    out, target = mix_batch(images, labels, mix, pool=(pool, known), rng=rng)
    for row, donor in enumerate(drawn.tolist()):
        assert set(out[row].unique().tolist()) <= {0.0, donor + 1.0} and target.ids[row, 1] == known[donor]


def test_the_loss_is_torchs_where_labels_are_hard():
    logits, labels, weights = torch.randn(7, 3), torch.arange(7) % 3, torch.tensor([1.0, 2.0, 0.5])
    hard = MixedLabels.hard(labels)
    torch.testing.assert_close(soft_cross_entropy(logits, hard), F.cross_entropy(logits, labels))
    torch.testing.assert_close(soft_cross_entropy(logits, hard, weights), F.cross_entropy(logits, labels, weights))
    focal = Focal()
    torch.testing.assert_close(soft_cross_entropy(logits, hard, loss=focal), focal(logits, labels).mean())
    share = torch.full((7, 2), 0.5)
    mixed = MixedLabels(torch.stack([labels, (labels + 1) % 3], 1), share)
    dense = 0.5 * F.one_hot(labels, 3) + 0.5 * F.one_hot((labels + 1) % 3, 3)
    torch.testing.assert_close(soft_cross_entropy(logits, mixed), F.cross_entropy(logits, dense))


def test_families_offer_their_classes():
    import divaug.mix
    import divaug.samplers

    assert "CutMix" in dir(divaug.mix) and "Oversample" in dir(divaug.samplers)
    with pytest.raises(AttributeError, match=r"module 'divaug\.mix' has no attribute 'CutMixx'"):
        divaug.mix.CutMixx  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        divaug.interop.nothing  # noqa: B018
    assert "watch" in dir(divaug.interop)

import gc
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from divaug.base.contracts import complete
from divaug.base.errors import ConfigError, DivaugError
from divaug.config.registry import PIXEL
from divaug.data.image_files import Geometry, ImageFiles
from divaug.data.images import Part
from divaug.data.loaders import Loader, _differ, most_workers, steps_of
from divaug.mix.cmo import CMO
from divaug.mix.none import NoMix
from divaug.pixel.crop_flip import CropFlip

RNG = np.random.default_rng(0)
PART = Part(RNG.integers(0, 256, (37, 8, 6, 3), dtype=np.uint8), np.arange(37) % 3)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CPU = torch.device("cpu")


class Halve:
    """A pixel component without a batched twin."""

    def sample(self, labels, size, rng):
        return rng.random(len(labels)) < 0.5

    def apply_one(self, image, plan, i):
        return image // 2 if plan[i] else image


def loader(part=PART, **kwargs):
    return Loader(part, mean=MEAN, std=STD, batch_size=8, device=CPU, **kwargs)


def epoch(loader, pixel=None, mix=None, **kwargs):
    order = np.random.default_rng(1).permutation(37)
    settings = {"seed": 0, "epoch": 3, **kwargs}
    return list(loader.epoch(order, pixel=pixel or CropFlip(), mix=mix or NoMix(), **settings)), order


def test_large_images_are_evaluated_few_at_once_but_not_fewer_than_are_trained_on():
    sizes = {}
    for side, size in ((8, 8), (64, 8), (128, 8), (512, 8), (512, 64)):
        images = Part(np.zeros((600, 1, 1, 1), dtype=np.uint8), np.zeros(600, dtype=np.int64))
        ours = Loader(images, mean=(0.5,), std=(0.5,), batch_size=size, device=CPU)
        ours._images = SimpleNamespace(shape=(600, side, side, 1))
        sizes[side, size] = next(len(labels) for _, labels in ours.in_order())
    assert sizes == {(8, 8): 500, (64, 8): 500, (128, 8): 125, (512, 8): 8, (512, 64): 64}
    assert [len(labels) for _, labels in loader().in_order(20)] == [20, 17]


def cmo():
    return CMO(torch.from_numpy(PART.labels), torch.tensor([13, 12, 12]))


@pytest.mark.parametrize(
    ("workers", "method", "pixel"),
    [
        (0, None, CropFlip()),
        (0, None, PIXEL.build("none", facts={})),
        (2, "fork", CropFlip()),
        (2, "fork", PIXEL.build("none", facts={})),
        (1, "spawn", CropFlip()),
        (1, "forkserver", CropFlip()),
    ],
)
def test_streaming_equals_resident(workers, method, pixel):
    resident, order = epoch(loader(), pixel, cmo())
    streaming, _ = epoch(loader(streaming=True, workers=workers, start_method=method), pixel, cmo())
    assert len(resident) == len(streaming) == 5
    for a, b in zip(resident, streaming, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        assert (a.indices == b.indices).all()
        assert torch.equal(a.donors.images, b.donors.images) and torch.equal(a.donors.labels, b.donors.labels)
    assert np.concatenate([b.indices for b in resident]).tolist() == order.tolist()


def test_a_streaming_loader_serves_many_epochs():
    streaming, resident = loader(streaming=True, workers=1, start_method="fork"), loader()
    for number in range(3):
        for a, b in zip(epoch(streaming, epoch=number)[0], epoch(resident, epoch=number)[0], strict=True):
            assert torch.equal(a.images, b.images)


def test_a_component_without_a_batched_twin_works_in_both():
    a, b = epoch(loader(), Halve())[0], epoch(loader(streaming=True), Halve())[0]
    assert all(torch.equal(x.images, y.images) for x, y in zip(a, b, strict=True))


def test_pictures_are_normalised():
    (batch, *_), order = epoch(loader(), PIXEL.build("none", facts={}))
    expected = (PART.images[order[:8]] / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(batch.images.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
    assert batch.size == (8, 6)


def test_donors_change_nothing_of_the_rows():
    for a, b in zip(epoch(loader(), mix=cmo())[0], epoch(loader())[0], strict=True):
        assert torch.equal(a.images, b.images) and b.donors is None
        assert len(a.donors.images) == len(a.images)


def test_epochs_and_slots_get_views_of_their_own_and_an_epoch_resumes_in_its_middle():
    whole, _ = epoch(loader())
    rest, _ = epoch(loader(), first_step=3)
    assert len(rest) == 2
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[3:], rest, strict=True))
    assert not torch.equal(whole[0].images, epoch(loader(), epoch=4)[0][0].images)
    same = np.zeros(8, dtype=np.int64)  # one image eight times, as over-sampling repeats it
    (batch,) = loader().epoch(same, pixel=CropFlip(), mix=NoMix(), seed=0, epoch=0)
    assert len(torch.unique(batch.images, dim=0)) > 4


@pytest.mark.parametrize(("draws", "sizes"), [(16, [8, 8]), (18, [8, 8, 2]), (17, [8, 9]), (1, [1]), (8, [8])])
def test_a_single_last_row_joins_the_batch_before(draws, sizes):
    batches = list(loader().epoch(np.arange(draws) % 37, pixel=CropFlip(), mix=NoMix(), seed=0, epoch=0))
    assert [len(b.labels) for b in batches] == sizes and loader().steps(draws) == len(sizes)


def test_files_are_read_by_both_loaders(tmp_path):
    paths = []
    for i, image in enumerate(PART.images[:, :6, :6]):
        paths.append(tmp_path / f"{i:02}.png")
        Image.fromarray(image).save(paths[-1])
    part = Part(ImageFiles(paths, Geometry(6)), PART.labels)
    resident, streaming = loader(part), loader(part, streaming=True)
    for a, b in zip(epoch(resident)[0], epoch(streaming)[0], strict=True):
        assert torch.equal(a.images, b.images)
    for (a, x), (b, y) in zip(resident.in_order(10), streaming.in_order(10), strict=True):
        assert torch.equal(a, b) and torch.equal(x, y)
    assert sum(len(images) for images in streaming.evenly(10, batch_size=4)) == 10


def test_order_and_even_spacing():
    ours = loader()
    labels = torch.cat([labels for _, labels in ours.in_order(10)])
    assert labels.tolist() == PART.labels.tolist()
    picked = torch.cat(list(ours.evenly(5, batch_size=2)))
    everything = torch.cat([images for images, _ in ours.in_order(10)])
    assert torch.equal(picked, everything[[0, 9, 18, 27, 36]])


def test_normalisation_must_fit_the_channels():
    with pytest.raises(ValueError, match="mean and std must have 3 values, got 1 and 1"):
        Loader(PART, mean=(0.5,), std=(0.5,), batch_size=8, device=CPU)


def test_closing_a_loader_ends_its_workers():
    made = loader(streaming=True, workers=2, start_method="fork")
    epoch(made)
    workers = made._reader._iterator._workers
    for worker in workers:  # to every process of a job, as schedulers send it: not to be obeyed
        os.kill(worker.pid, signal.SIGTERM)
        os.kill(worker.pid, signal.SIGINT)
    time.sleep(0.2)
    assert all(worker.is_alive() for worker in workers)
    made.close()
    assert not any(worker.is_alive() for worker in workers)
    made.close()
    loader().close()


def test_workers_end_with_a_loader_that_nobody_closes():
    made = loader(streaming=True, workers=1, start_method="fork")
    batches = made.epoch(np.arange(37), pixel=CropFlip(), mix=NoMix(), seed=0, epoch=0)
    next(batches)  # in the middle of an epoch
    (worker,) = made._reader._iterator._workers
    del batches, made
    gc.collect()
    worker.join(10)
    assert not worker.is_alive()


def test_more_workers_than_the_machine_can_use_are_refused():
    with pytest.raises(ConfigError, match="workers must be <= "):
        loader(streaming=True, workers=most_workers() + 1)


@pytest.mark.parametrize(
    ("rows", "steps"), [(1, 1), (7, 1), (8, 1), (9, 1), (10, 2), (15, 2), (16, 2), (17, 2), (18, 3)]
)
def test_a_last_batch_of_a_few_rows_joins_the_one_before_it(rows, steps):
    assert steps_of(rows, 8) == steps  # a quarter of eight rows stands alone
    assert [steps_of(rows, 32) for rows in (34, 39, 40)] == [1, 1, 2]
    made = Loader(PART.take(np.arange(rows)), mean=MEAN, std=STD, batch_size=8, device=CPU)
    batches = list(made.epoch(np.arange(rows), pixel=CropFlip(), mix=NoMix(), seed=0, epoch=0))
    assert len(batches) == steps and np.concatenate([b.indices for b in batches]).tolist() == list(range(rows))


class Floats(Halve):
    def apply_one(self, image, plan, i):
        return image / 255


class OneLess(Halve):
    def apply(self, images, plan):
        return images[1:]


@pytest.mark.parametrize(
    ("pixel", "said"), [(Floats(), "Floats returned torch.float64"), (OneLess(), r"OneLess returned torch.uint8 \(7")]
)
@pytest.mark.parametrize("donors", [False, True])
def test_views_that_are_not_uint8_images_are_refused(pixel, said, donors, monkeypatch):
    if donors:  # only their views are wrong
        right, calls = complete(pixel).apply, []
        monkeypatch.setattr(
            pixel,
            "apply",
            lambda images, plan: images if len(calls) == 0 and not calls.append(1) else right(images, plan),
            raising=False,
        )
    with pytest.raises(DivaugError, match=said):
        epoch(loader(), complete(pixel), cmo())


class Darken(Halve):
    def apply_one(self, image, plan, i):
        image //= 2
        return image


@pytest.mark.parametrize("streaming", [False, True])
def test_a_component_that_changes_the_images_it_is_given_is_refused(streaming):
    """What is counted as augmented, and what a chain or by_class does with the other rows, would be wrong."""
    with pytest.raises(DivaugError, match="the pixel component Darken changes the images"):
        epoch(loader(streaming=streaming), complete(Darken()))


class Asks(NoMix):
    def __init__(self, asked):
        self.asked = asked

    def donors(self, labels, rng):
        return self.asked(labels) if callable(self.asked) else self.asked


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (np.arange(8), r"int64 \(8,\); an int64 tensor of positions, one for each of 8 rows"),
        (torch.arange(8.0), "torch.float32"), (torch.arange(5), r"torch.int64 \(5,\)"), ([1] * 8, "by list"),
        (torch.arange(30, 38), "asked for donors 30 to 37; there are 37 images"), (torch.arange(-1, 7), "-1 to 6"),
        (lambda labels: labels.nope, "raised AttributeError"),
    ],
)  # fmt: skip
def test_donors_that_are_no_positions_are_refused_by_name(asked, said):
    with pytest.raises(DivaugError, match=f"the mix Asks .*{said}"):
        epoch(loader(), mix=Asks(asked))


class CannotPlan(Halve):
    def sample(self, labels, size, rng):
        return labels.nope


class CannotTravel(Halve):
    def __init__(self):
        self.change = lambda image: image


def test_a_plan_that_fails_and_a_component_that_cannot_travel_are_named():
    with pytest.raises(DivaugError, match="the pixel component CannotPlan raised AttributeError"):
        epoch(loader(), complete(CannotPlan()))
    epoch(loader(streaming=True), complete(CannotTravel()))  # in this process it need not
    streaming = loader(streaming=True, workers=1)
    with pytest.raises(DivaugError, match=r"the pixel component CannotTravel raised .*ickl"):
        epoch(streaming, complete(CannotTravel()))
    streaming.close()


@pytest.mark.parametrize("shape", [(5, 5, 3), (8, 8, 1), (4, 6, 3)])  # 75, 64 and 72 bytes a row
def test_a_single_byte_makes_a_view_another_image(shape):
    raw = torch.randint(0, 256, (4, *shape), dtype=torch.uint8)
    views = raw.clone()
    views[1].view(-1)[-1] += 1
    views[3].view(-1)[0] += 1
    assert _differ(views, raw).tolist() == [False, True, False, True]
    assert not _differ(raw, raw).any() and _differ(views[:, :-1], raw).all()
    tall = torch.zeros(4, shape[0] + 1, *shape[1:], dtype=torch.uint8)  # a window of a padded batch is no packed one
    tall[:, 1:] = raw
    assert not _differ(tall[:, 1:], raw).any()
    odd = tall.view(-1)[1:][: raw.numel()].view_as(raw)  # begins at an odd byte
    assert _differ(odd, raw).tolist() == (odd != raw).flatten(1).any(1).tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_images_are_those_of_the_formula(channels):
    """As torch normalises a float image of 0 to 1, channels last in memory, and back again."""
    images = np.random.default_rng(0).integers(0, 256, (6, 7, 5, channels), dtype=np.uint8)
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.25, 0.3)[:channels]
    loader = Loader(Part(images, np.zeros(6, np.int64)), mean=mean, std=std, batch_size=6, device=torch.device("cpu"))
    found = loader.normalize(torch.from_numpy(images))
    wanted = (images / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), wanted, atol=2e-6)
    assert found.is_contiguous(memory_format=torch.channels_last) and found.dtype == torch.float32
    assert (loader.denormalize(found).numpy() == images).all()
    assert loader.normalize(torch.from_numpy(images[:0])).shape == (0, channels, 7, 5)

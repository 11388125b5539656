"""On a GPU what is on the CPU: the same draws and counts, steps that do not wait, checkpoints that go both ways.

``make gpu`` runs these where there is a card; without one they are skipped.
"""

import numpy as np
import pytest
import torch

from divaug.base.contracts import complete
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.feature.none import NoFeature
from divaug.latent.monitor import TopKMonitor
from divaug.losses.ce import CrossEntropy
from divaug.mix.cmo import CMO
from divaug.models import resnet20
from divaug.pixel.crop_flip import CropFlip
from divaug.samplers.uniform import Uniform
from divaug.train.checkpoint import State, load, save
from divaug.train.epoch import draw_rows, train_epoch, views
from divaug.train.step import Stage, Totals

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
ROWS, COUNTS = 96, torch.tensor([60, 24, 12])


def made(device, per_row=False):
    device = torch.device(device)
    labels = torch.repeat_interleave(torch.arange(3), COUNTS)
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)
    loader = Loader(Part(images, labels.numpy()), mean=(0.5,) * 3, std=(0.25,) * 3, batch_size=32, device=device)
    mix = complete(CMO(labels, COUNTS, prob=0.8, per_row=per_row))
    stage = Stage(
        0, Uniform(labels, COUNTS), complete(CropFlip()), mix, NoFeature(), CrossEntropy(), torch.ones(3, device=device)
    )
    network = resnet20(num_classes=3, seed=0).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    return loader, stage, network, optimizer


def train(loader, stage, network, optimizer, epoch=0, **more):
    totals = Totals.empty(3, ROWS, loader.device)
    place = {"seed": 3, "epoch": epoch, "epochs": 4, "learning_rate": lambda step: 0.01}
    assert train_epoch(network, loader, stage, optimizer, totals=totals, **place, **more)
    return totals.to("cpu")


@pytest.mark.parametrize("per_row", [False, True])
def test_draws_and_counts_are_those_of_the_cpu(per_row):
    shown, counted = {}, {}
    for device in ("cpu", "cuda"):
        loader, stage, network, optimizer = made(device, per_row)
        drawn = draw_rows(stage, ROWS, seed=3, epoch=1, epochs=4)
        shown[device] = list(views(loader, stage, drawn, seed=3, epoch=1))
        monitor = TopKMonitor(3, 64)
        totals = train(loader, stage, network, optimizer, monitor=monitor)
        counted[device] = totals, monitor.counts.n.cpu()
    for ours, theirs in zip(shown["cuda"], shown["cpu"], strict=True):
        torch.testing.assert_close(ours.images.cpu(), theirs.images, atol=1e-5, rtol=1e-5)
        assert torch.equal(ours.target.ids.cpu(), theirs.target.ids)
        assert torch.equal(ours.batch.changed.cpu(), theirs.batch.changed)
    (ours, n), (theirs, m) = counted["cuda"], counted["cpu"]
    for name in ("seen", "augmented", "receivers", "givers", "visits", "donations"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(n, m)
    torch.testing.assert_close(ours.mass, theirs.mass, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("per_row", [False, True])
def test_a_step_does_not_wait_for_the_device(per_row):
    loader, stage, network, optimizer = made("cuda", per_row)
    monitor = TopKMonitor(3, 64)
    train(loader, stage, network, optimizer, monitor=monitor)  # what is set up once may wait
    steps = []

    def after_step():
        steps.append(1)
        torch.cuda.set_sync_debug_mode("error" if len(steps) < 3 else "default")  # the epoch's end reads the counts
        return False

    try:
        train(loader, stage, network, optimizer, epoch=1, monitor=monitor, after_step=after_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 3


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_checkpoints_go_from_device_to_device(tmp_path, first, second):
    loader, stage, network, optimizer = made(first)
    train(loader, stage, network, optimizer)
    save(tmp_path / "last.pt", State(network, optimizer, [stage]), epoch=1, totals=Totals.empty(3, ROWS, loader.device))
    _, stage, other, optimizer = made(second)
    epoch, totals, _ = load(tmp_path / "last.pt", State(other, optimizer, [stage]))
    assert epoch == 1 and totals.seen.device.type == second
    for name, value in network.state_dict().items():
        assert torch.equal(value.cpu(), other.state_dict()[name].cpu()), name
    momentum = next(iter(optimizer.state.values()))["momentum_buffer"]
    assert momentum.device.type == second

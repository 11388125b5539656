"""How much faster is a run's epoch than the field's usual loop with the same network and images?

    python benchmarks/reference_loop.py

The usual loop: a Dataset of PIL images, RandomCrop, RandomHorizontalFlip, ToTensor and Normalize for each image, a
DataLoader without workers (they would compete with the network for two processors), WeightedRandomSampler, CutMix of
every batch, fp32, NCHW. Divaug: ``train_epoch`` with class-balanced sampling, crop and flip and CutMix on resident
images, channels last, the monitor on, with bf16 and without. Data alone too: batches made ready by either, no network.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import divaug  # noqa: F401 - before torchvision

# isort: split
import numpy as np
import torch
from harness import interleaved, measure, write
from PIL import Image
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision.transforms import v2

from divaug.base.contracts import complete
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.feature.none import NoFeature
from divaug.latent.monitor import TopKMonitor
from divaug.losses.ce import CrossEntropy
from divaug.mix.cutmix import CutMix
from divaug.models import build_network
from divaug.pixel.crop_flip import CropFlip
from divaug.samplers.oversample import Oversample
from divaug.train.build import has_bf16
from divaug.train.epoch import draw_rows, train_epoch, views
from divaug.train.step import Stage, Totals

ROUNDS, ROWS, STEPS, CLASSES = 7, 128, 4, 10
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
DRAWS = 10_000_000


class Images(Dataset):
    """Images as the field's code has them."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.transform = v2.Compose([
            v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.part.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.part.images[row])), int(self.part.labels[row])


def main() -> None:
    rng, rows = np.random.default_rng(0), ROWS * STEPS
    part = Part(rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8), rng.integers(0, CLASSES, rows))
    labels = torch.from_numpy(part.labels)
    counts = torch.bincount(labels, minlength=CLASSES)
    weights = (1 / counts)[labels].double()
    sampler = WeightedRandomSampler(weights.tolist(), rows)
    usual = DataLoader(Images(part), batch_size=ROWS, sampler=sampler)
    loader = Loader(part, mean=MEAN, std=STD, batch_size=ROWS, device=torch.device("cpu"))
    stage = Stage(
        0, Oversample(labels, counts), complete(CropFlip()), complete(CutMix(prob=1.0)), NoFeature(), CrossEntropy(),
        None,
    )  # fmt: skip

    def ready() -> None:
        drawn = draw_rows(stage, rows, seed=0, epoch=0, epochs=2)
        for _ in views(loader, stage, drawn, seed=0, epoch=0):
            pass

    def usual_ready() -> None:
        mix = v2.CutMix(num_classes=CLASSES)
        for images, ids in usual:
            mix(images, ids)

    works = {"usual": usual_loop(usual), "fp32": ours(loader, stage, bf16=False), "usual data": usual_ready,
             "data": ready}  # fmt: skip
    if has_bf16(torch.device("cpu")):
        works["bf16"] = ours(loader, stage, bf16=True)
    samples = interleaved(works, ROUNDS)
    records = [
        measure("reference/fp32", "usual loop over divaug's, ResNet-32, fp32", samples, "usual", "fp32", ">= 1.2"),
        measure(
            "data_path", "PIL and DataLoader over divaug's batches, no network", samples, "usual data", "data", ">= 20"
        ),
    ]
    if "bf16" in works:
        question = "usual loop over divaug's, ResNet-32, bf16"
        records.insert(0, measure("reference/bf16", question, samples, "usual", "bf16", ">= 2.0"))
    write(__file__, [*records, draws()])


def draws() -> dict[str, Any]:
    """Return the record of an epoch's draws for ten million images."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 100, DRAWS))
    counts = torch.bincount(labels, minlength=100)
    ours, weights = Oversample(labels, counts), (1 / counts.double())[labels]
    theirs = WeightedRandomSampler(weights, DRAWS)  # pyright: ignore[reportArgumentType] - a tensor is taken too
    samples = interleaved(
        {
            "usual": lambda: deque(iter(theirs), 0), "ours": lambda: ours.draw(np.random.default_rng(1), 0.0),
            "multinomial": lambda: torch.multinomial(weights, DRAWS, replacement=True),
        }, 3,
    )  # fmt: skip
    return measure("draws", "an epoch of WeightedRandomSampler over ours, 1e7", samples, "usual", "ours", ">= 10")


def network() -> tuple[Any, torch.optim.Optimizer]:
    model = build_network("resnet32", CLASSES, seed=0)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def usual_loop(data: Any) -> Callable[[], None]:
    model, optimizer = network()
    mix = v2.CutMix(num_classes=CLASSES)

    def work() -> None:
        model.train()
        for batch in data:
            images, target = mix(*batch)
            loss = torch.nn.functional.cross_entropy(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return work


def ours(loader: Loader, stage: Stage, *, bf16: bool) -> Callable[[], None]:
    model, optimizer = network()
    monitor = TopKMonitor(CLASSES, model.backbone.feature_dim)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stubs lack it

    def work() -> None:
        train_epoch(
            model, loader, stage, optimizer, totals=Totals.empty(CLASSES, ROWS * STEPS), bf16=bf16,
            learning_rate=lambda step: 0.1, seed=0, epoch=0, epochs=2, monitor=monitor,
        )  # fmt: skip

    return work


if __name__ == "__main__":
    main()

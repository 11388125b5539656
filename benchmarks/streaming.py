"""How many JPEG files does the streaming loader read a second, beside timm's?

    python benchmarks/streaming.py

Made images are decoded, brought to 224x224, flipped at random and normalised by ours and by timm's loader, with no
worker and with as many as processors. Of 224x224 pixels: what users have who resized theirs beforehand. Of ImageNet's
size (500x375 and the like), with timm's crops of the whole image (the same work) and of its default part of it, which
is less to resize. On paper beside it: the processor hours that ImageNet-LT (115,846 images, 90 epochs) takes to read,
and how many processors feed eight GPUs.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import divaug  # noqa: F401 - before torchvision

# isort: split
import numpy as np
import torch
from harness import interleaved, measure, value, write
from PIL import Image
from timm.data import create_dataset, create_loader  # pyright: ignore[reportPrivateImportUsage]

from divaug.base.contracts import complete
from divaug.data.image_files import Geometry, ImageFiles
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.mix.none import NoMix
from divaug.pixel.crop_flip import CropFlip

IMAGES, SIDE, ROWS, ROUNDS = 2000, 224, 64, 3
SMALL, LARGE = ((SIDE, SIDE),), ((500, 375), (375, 500), (500, 333), (640, 480))
LONG_TAIL, EPOCHS, GPUS, EACH = 115_846, 90, 8, 1000


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of this process; workers have one each
    records, best, counts = [], 0.0, (0, os.cpu_count() or 1)
    whole, default = {"whole": {"scale": (1.0, 1.0), "ratio": (0.5, 2.0)}}, {"default": {}}
    for kind, sizes, crops in (("224", SMALL, whole), ("imagenet", LARGE, whole | default)):
        with tempfile.TemporaryDirectory() as folder:
            files = make(Path(folder), sizes)
            size = sum(file.stat().st_size for file in files) / len(files) / 1000
            works = {f"ours {n}": our_epoch(files, n) for n in counts}
            for crop, options in crops.items():
                works |= {f"timm {crop} {n}": timm_epoch(Path(folder), n, options) for n in counts}
            samples = interleaved(works, ROUNDS, warm=0)
        for n in counts:
            for crop in crops:
                target = ">= 0.95" if crop == "whole" else None
                question = f"timm's seconds over ours, {n} workers, files of {size:.0f} KB, its crops: {crop}"
                name = f"streaming/{kind}/{crop}/{n}"
                records.append(measure(name, question, samples, f"timm {crop} {n}", f"ours {n}", target))
            seconds = records[-1]["seconds"][f"ours {n}"]
            records.append(value(f"images_per_second/{kind}/{n}", f"ours, {n} workers", IMAGES / seconds, None))
        best = max(IMAGES / sample.cpu for n in counts for sample in samples[f"ours {n}"])  # of ImageNet's size at last
    hours = LONG_TAIL * EPOCHS / best / 3600
    feeding = f"processors that feed {GPUS} GPUs of {EACH:,} images a second each"
    torch.set_num_threads(threads)  # what the record of the machine says
    write(__file__, [
        *records, value("images_per_cpu_second", "ours, of ImageNet's size", best, None),
        value("imagenet_lt/hours", f"processor hours to read ImageNet-LT {EPOCHS} times", hours, None),
        value("imagenet_lt/processors", feeding, GPUS * EACH / best, None),
    ])  # fmt: skip


def make(folder: Path, sizes: tuple[tuple[int, int], ...]) -> list[Path]:
    """Write images that JPEG packs about as ImageNet's: clouds of three scales, and noise."""
    rng, files = np.random.default_rng(0), []
    for number in range(IMAGES):
        width, height = sizes[number % len(sizes)]
        image = rng.normal(0, 14, (height, width, 3))
        for cells, strength in ((4, 70), (16, 35), (64, 20)):
            clouds = Image.fromarray((rng.uniform(-strength, strength, (cells, cells, 3)) + 128).astype(np.uint8))
            image += np.asarray(clouds.resize((width, height), Image.Resampling.BICUBIC)) - 128.0
        file = folder / f"class{number % 10}" / f"{number}.jpg"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((image + 128).clip(0, 255).astype(np.uint8)).save(file, quality=90)
        files.append(file)
    return files


def our_epoch(files: list[Path], workers: int) -> Callable[[], None]:
    part = Part(ImageFiles(files, Geometry(SIDE)), np.array([int(file.parent.name[5:]) for file in files]))
    pixel, mix = complete(CropFlip()), complete(NoMix())

    def work() -> None:
        loader = Loader(
            part, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), batch_size=ROWS, device=torch.device("cpu"),
            streaming=True, workers=workers,
        )  # fmt: skip
        order = np.random.default_rng(0).permutation(len(files))
        seen = sum(len(batch.images) for batch in loader.epoch(order, pixel=pixel, mix=mix, seed=0, epoch=0))
        loader.close()
        assert seen == len(files)

    return work


def timm_epoch(folder: Path, workers: int, options: dict[str, Any]) -> Callable[[], None]:
    def work() -> None:
        dataset: Any = create_dataset("", root=str(folder))
        loader: Any = create_loader(
            dataset, (3, SIDE, SIDE), ROWS, is_training=True, color_jitter=None, num_workers=workers,
            persistent_workers=False, device=torch.device("cpu"), **options,
        )  # fmt: skip
        seen = sum(len(images) for images, _ in loader)
        assert seen >= IMAGES - ROWS  # it drops the last batch, 16 of 2,000 images

    return work


if __name__ == "__main__":
    main()

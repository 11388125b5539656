"""What do data, mixing, the monitor and the checks cost over the bare model step? A ratio of medians in one run.

    python benchmarks/step_overhead.py

Bare: forward, cross-entropy, backward and SGD step on one fixed random batch. Full: ``train_epoch`` as the recipes
call it (resident loader, crop and flip, donors and CMO in every step, latent monitor, gradient check). The two
alternate, so that a busy machine slows both. Written to ``benchmarks/results/step_overhead.json``.
"""

import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from divaug.base.contracts import complete
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.feature.none import NoFeature
from divaug.latent.monitor import TopKMonitor
from divaug.losses.ce import CrossEntropy
from divaug.mix.cmo import CMO
from divaug.models import build_network
from divaug.pixel.crop_flip import CropFlip
from divaug.samplers.uniform import Uniform
from divaug.train.epoch import train_epoch
from divaug.train.step import Stage, Totals

ROUNDS, STEPS, ROWS = 5, 3, 128


def main() -> None:
    device = torch.device("cpu")
    rng = np.random.default_rng(0)
    rows = ROWS * STEPS
    part = Part(rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, rows))
    labels = torch.from_numpy(part.labels)
    counts = torch.bincount(labels, minlength=10)
    loader = Loader(part, mean=(0.5,) * 3, std=(0.2,) * 3, batch_size=ROWS, device=device)
    stage = Stage(
        0,
        Uniform(labels, counts),
        complete(CropFlip()),
        complete(CMO(labels, counts, prob=1.0)),
        NoFeature(),
        CrossEntropy(),
        None,
    )
    model = build_network("resnet32", 10, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    monitor = TopKMonitor(10, 64)
    images = torch.randn(ROWS, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    def bare() -> None:
        model.train()
        for step in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            ids = labels[step * ROWS : (step + 1) * ROWS]
            torch.nn.functional.cross_entropy(model(images), ids).backward()
            optimizer.step()

    def full(epoch: int) -> None:
        train_epoch(
            model, loader, stage, optimizer, totals=Totals.empty(10, rows), learning_rate=lambda step: 0.01, seed=0,
            epoch=epoch, epochs=ROUNDS + 1, monitor=monitor,
        )  # fmt: skip

    bare(), full(0)
    times: dict[str, list[float]] = {"bare": [], "full": []}
    for number in range(ROUNDS):
        for name, work in (("bare", bare), ("full", lambda number=number: full(number + 1))):
            started = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - started) / STEPS)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = [f / b for f, b in zip(times["full"], times["bare"], strict=True)]
    result = {
        "question": "full step over bare step, ResNet-32, 128 x 32x32, fp32, channels last",
        "ratio_of_medians": round(medians["full"] / medians["bare"], 4),
        "ratio_by_round": [round(r, 4) for r in ratios],
        "seconds_per_step": {name: round(value, 4) for name, value in medians.items()},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    Path(__file__).with_name("results").mkdir(exist_ok=True)
    Path(__file__).with_name("results").joinpath("step_overhead.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

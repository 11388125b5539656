"""What does a training step of each method cost, relative to plain training?

    python benchmarks/method_cost.py

Every method of ``recipes/methods/README.md`` trains four steps of 128 made images of 32x32 with the network of the
preset ``sprint``, in the middle of training, on one thread, and alternates with ``erm``: CPU seconds of one over the
other. What a method does between epochs (cuda) or in a later phase (two_phase, those that defer) is not in it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import divaug

# isort: split
import numpy as np
import torch
from harness import interleaved, measure, write

from divaug.data.images import Dataset, Part
from divaug.data.load import Data
from divaug.data.longtail import Cut
from divaug.train.build import build, rate_of, resolve, stage_at
from divaug.train.epoch import train_epoch
from divaug.train.step import Totals

COUNTS, EPOCH, EPOCHS, ROUNDS = (230, 130, 70, 36, 20, 11, 6, 4, 3, 2), 6, 12, 9
TABLE = Path(__file__).parents[1] / "recipes" / "methods" / "README.md"


def main() -> None:
    threads = torch.get_num_threads()
    names = re.findall(r"--methods (\S+)", TABLE.read_text(encoding="utf-8"))[0].split(",")
    plain, records = steps_of("erm"), []
    for name in names:
        pair = interleaved({name: steps_of(name), "erm again": plain}, ROUNDS)
        records.append(measure(f"cost/{name}", f"a step of {name} over one of erm", pair, name, "erm again", None,
                               of="cpu"))  # fmt: skip
    torch.set_num_threads(threads)
    write(__file__, records)


def steps_of(method: str, preset: str = "sprint", **more: Any) -> Callable[[], Any]:
    """Return work: four steps of a method in the middle of training."""
    config = divaug.configure(dataset="cifar10", preset=preset, method=method, epochs=EPOCHS, threads=1, **more)
    data = made()
    config = resolve(config, data)
    built = build(config, data)
    stage, rows = stage_at(built.stages, EPOCH), len(data.train.labels)

    def work() -> None:
        torch.set_num_threads(1)
        train_epoch(
            built.model, built.train, stage, built.optimizer, totals=Totals.empty(len(COUNTS), rows, built.device),
            learning_rate=rate_of(config, built.train.steps(rows), EPOCH), seed=0, epoch=EPOCH, epochs=EPOCHS,
            bf16=built.bf16, monitor=built.monitor,
        )  # fmt: skip

    return work


def made() -> Data:
    """Return images of noise around a mean of each class, in a long tail, as a run has them."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(len(COUNTS)), COUNTS)
    centres = rng.uniform(60, 190, (len(COUNTS), 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    images = (centres[labels] + rng.normal(0, 30, (len(labels), 32, 32, 3))).clip(0, 255).astype(np.uint8)
    part, counts = Part(images, labels), np.array(COUNTS)
    dataset = Dataset(part, part, [f"c{c}" for c in range(len(COUNTS))], (0.5,) * 3, (0.25,) * 3, pixel="crop_flip")
    cut = Cut(np.arange(len(labels)), counts, counts)
    return Data(dataset, cut, part, None, part, counts, (), dataset.identity, 0, "native")


if __name__ == "__main__":
    main()

"""What do data, mixing, the monitor and the checks cost over the bare model step?

    python benchmarks/step_overhead.py

Bare: forward, cross-entropy, backward and SGD step on batches that are ready. Loop: ``train_epoch`` as the recipes call
it (resident loader, crop and flip, CMO with donors in every step, latent monitor, gradient check). Both have the same
network, images, precision, memory format and number of rows; the arithmetic of the step is shown beside what a matrix
product of the machine reaches.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import interleaved, measure, value, write

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
from divaug.train.build import has_bf16, initial_network
from divaug.train.epoch import train_epoch
from divaug.train.step import Stage, Totals
from divaug.train.threads import multiply_adds

ROUNDS, STEPS, ROWS, SIDE = 15, 3, 128, 2048
NETWORKS = {"resnet32": {}, "whitened_cnn": {"widths": [32, 64, 128]}}


def main() -> None:
    bf16 = has_bf16(torch.device("cpu"))
    peak = product_rate(bf16=bf16)
    records = []
    for name, options in NETWORKS.items():
        works, network = works_of(name, options, bf16=bf16)
        samples = interleaved(works, ROUNDS)
        same = {"rows": ROWS, "network": name, "bf16": bf16}
        records.append(measure(f"loop/{name}", "whole loop over bare step", samples, "loop", "bare", "<= 1.03", **same))
        plain = measure(f"loop_plain/{name}", "loop without monitor", samples, "plain", "bare", "<= 1.03", **same)
        operations = 3 * 2 * multiply_adds(network, (3, 32, 32)) * ROWS * STEPS  # backward costs twice the forward
        rate = operations / plain["seconds"]["bare"]
        told = {"gflops": round(rate / 1e9), "product_gflops": round(peak / 1e9)}
        question = "arithmetic of the bare step over a matrix product's"
        records += [plain, value(f"share_of_gemm/{name}", question, rate / peak, ">= 0.3", **told)]
    write(__file__, records)


def works_of(
    name: str, options: dict[str, Any], *, bf16: bool
) -> tuple[dict[str, Callable[[], None]], torch.nn.Module]:
    """Return the bare step and the loop, with and without monitor, on networks that start alike."""
    rng, rows = np.random.default_rng(0), ROWS * STEPS
    part = Part(rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, rows))
    labels = torch.from_numpy(part.labels)
    loader = Loader(part, mean=(0.5,) * 3, std=(0.2,) * 3, batch_size=ROWS, device=torch.device("cpu"))
    counts = torch.bincount(labels, minlength=10)
    stage = Stage(
        0, Uniform(labels, counts), complete(CropFlip()), complete(CMO(labels, counts, prob=1.0)), NoFeature(),
        CrossEntropy(), None,
    )  # fmt: skip
    ready = [(loader.normalize(loader.take(rows)), labels[torch.from_numpy(rows)])
             for rows in np.arange(rows).reshape(STEPS, ROWS)]  # fmt: skip

    def trained() -> tuple[Any, torch.optim.Optimizer]:
        model = initial_network(build_network(name, 10, seed=0, **options), loader, rows)
        return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    bare_model, bare_optimizer = trained()

    def bare() -> None:
        bare_model.train()
        for images, ids in ready:
            bare_optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = bare_model(images)
            torch.nn.functional.cross_entropy(logits.float(), ids).backward()
            bare_optimizer.step()

    def loop(monitor: TopKMonitor | None) -> Callable[[], None]:
        model, optimizer = trained()

        def work() -> None:
            train_epoch(
                model, loader, stage, optimizer, totals=Totals.empty(10, rows), learning_rate=lambda step: 0.01,
                seed=0, epoch=0, epochs=2, monitor=monitor, bf16=bf16,
            )  # fmt: skip

        return work

    works = {"bare": bare, "loop": loop(TopKMonitor(10, bare_model.backbone.feature_dim)), "plain": loop(None)}
    return works, bare_model


def product_rate(*, bf16: bool) -> float:
    """Return the operations per second of a square matrix product: the best of several."""
    a = torch.randn(SIDE, SIDE, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(12):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best


if __name__ == "__main__":
    main()

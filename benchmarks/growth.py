"""How do time and memory grow with the number of images, classes and features?

    python benchmarks/growth.py

Each part is timed over a range of one size with the others fixed; the exponent is the slope of log time over log size
between the largest two sizes, where fixed costs matter least. The report at the end of a run of 1,000 classes, 2,048
features and 60,000 images is timed alone, with its peak memory, in a process of its own.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from harness import value, write

from divaug.base.contracts import complete
from divaug.base.labels import MixedLabels
from divaug.data.audit import near_pairs
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.data.longtail import cut as draw_cut
from divaug.feature.none import NoFeature
from divaug.latent import Embeddings, all_tables
from divaug.latent.monitor import TopKMonitor
from divaug.losses.ce import CrossEntropy
from divaug.mix.cutmix import CutMix
from divaug.pixel.crop_flip import CropFlip
from divaug.samplers.oversample import Oversample
from divaug.train.epoch import draw_rows, views
from divaug.train.step import Stage

LARGEST = 1.1
REPORT = {"images": 60_000, "classes": 1000, "features": 2048}


def main() -> None:
    if sys.argv[1:] == ["report"]:
        report_here()
        return
    records = [
        exponent("draws, N", (10**5, 10**6, 10**7), draws),
        exponent("data path, N", (4_000, 16_000, 64_000), data_path),
        exponent("cut, N", (10**5, 10**6, 10**7), cut),
        exponent("near copies, N", (10**4, 10**5, 10**6), near_copies),
        exponent("monitor, C", (10, 1000, 8142), lambda c: monitor(c, 256)),
        exponent("monitor, D", (64, 512, 2048), lambda d: monitor(100, d)),
        exponent("monitor compute, C", (10, 1000, 8142), lambda c: monitor_compute(c, 256)),
        exponent("report, N", (500, 2000, 8000), lambda n: report(n, 20, 64)),
        exponent("report, C", (10, 100, 1000), lambda c: report(8000, c, 64)),
        exponent("report, D", (64, 512, 2048), lambda d: report(2000, 20, d)),
    ]
    seconds, gib, held = map(float, subprocess.run(
        [sys.executable, __file__, "report"], check=True, capture_output=True, text=True
    ).stdout.split())  # fmt: skip
    sizes = ", ".join(f"{n:,} {name}" for name, n in REPORT.items())
    write(__file__, [
        *records, value("end_report/seconds", f"all tables, {sizes}", seconds, "<= 60"),
        value("end_report/memory", "peak memory of its process in GiB", gib, "<= 2", data=round(held, 2)),
    ])  # fmt: skip


def exponent(name: str, sizes: Sequence[int], work: Callable[[int], Callable[[], Any]]) -> dict[str, Any]:
    times = []
    for size in sizes:
        do = work(size)
        do()
        times.append(min(timed(do) for _ in range(3)))
    slope = math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2])
    told = {"sizes": list(sizes), "seconds": [float(f"{t:.3g}") for t in times]}
    return value(f"growth/{name}", "exponent of time between the largest two sizes", slope, f"<= {LARGEST}", **told)


def timed(do: Callable[[], Any]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def draws(n: int) -> Callable[[], Any]:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 100, n))
    sampler = Oversample(labels, torch.bincount(labels, minlength=100))
    return lambda: sampler.draw(np.random.default_rng(1), 0.0)


def data_path(n: int) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    part = Part(rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, n))
    labels = torch.from_numpy(part.labels)
    sampler = Oversample(labels, torch.bincount(labels, minlength=10))
    loader = Loader(part, mean=(0.5,) * 3, std=(0.2,) * 3, batch_size=128, device=torch.device("cpu"))
    stage = Stage(0, sampler, complete(CropFlip()), complete(CutMix()), NoFeature(), CrossEntropy(), None)

    def work() -> None:
        for _ in views(loader, stage, draw_rows(stage, n, seed=0, epoch=0, epochs=2), seed=0, epoch=0):
            pass

    return work


def cut(n: int) -> Callable[[], Any]:
    labels = np.random.default_rng(0).integers(0, 100, n)
    return lambda: draw_cut(labels, 100, subset="nested")


def near_copies(n: int) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 2**63, n, dtype=np.uint64)
    pixels = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    return lambda: near_pairs(looks, np.broadcast_to(pixels, (n, 16, 16, 3)))


def monitor(classes: int, d: int) -> Callable[[], Any]:
    z, target = torch.rand(128, d), MixedLabels.hard(torch.randint(0, classes, (128,)))
    head, watched = torch.nn.Linear(d, classes), TopKMonitor(classes, d)

    def work() -> None:
        for _ in range(20):
            watched.update(z, target, head)

    return work


def monitor_compute(classes: int, d: int) -> Callable[[], Any]:
    watched = TopKMonitor(classes, d)
    for _ in range(50):
        watched.update(
            torch.rand(128, d), MixedLabels.hard(torch.randint(0, classes, (128,))), torch.nn.Linear(d, classes)
        )
    return watched.compute


def bundle(n: int, classes: int, d: int, seed: int) -> Embeddings:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.random((classes, d), dtype=np.float32)
    features = rng.standard_normal((n, d), dtype=np.float32)  # in place: the peak to be measured is the report's
    features *= 0.5
    for c in range(classes):
        features[labels == c] += centres[c]
    np.maximum(features, 0, out=features)
    weight = rng.standard_normal((classes, d), dtype=np.float32)
    names = tuple(f"c{c}" for c in range(classes))
    return Embeddings(
        features, labels, names, weight=weight, bias=np.zeros(classes, np.float32), logits=features @ weight.T
    )


def report(n: int, classes: int, d: int) -> Callable[[], Any]:
    train, test = bundle(n, classes, d, 0), bundle(max(classes * 2, n // 5), classes, d, 1)
    return lambda: all_tables(train, test)


def report_here() -> None:
    import resource

    n, classes, d = REPORT.values()
    train, test = bundle(n, classes, d, 0), bundle(n // 6, classes, d, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = timed(lambda: all_tables(train, test))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, after / 2**20, before / 2**20)


if __name__ == "__main__":
    main()

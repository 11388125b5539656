"""What does the monitor's update cost, as a share of the step that it watches?

    python benchmarks/monitor.py

At D = 64, C = 10 the step is ResNet-32's on 128 images of 32x32; at D = 2048, C = 1000 it is ResNet-50's on 8 images of
224x224, and the update is of 128 rows all the same, which overstates the share. Beside it: finding the sets alone, by
a stable sort and by a threshold.
"""

from collections.abc import Callable

import divaug  # noqa: F401 - before torchvision

# isort: split
import torch
from harness import Sample, interleaved, measure, write

from divaug.base.labels import MixedLabels
from divaug.latent import top_k_sets
from divaug.latent.monitor import TopKMonitor
from divaug.models import build_network
from divaug.train.build import has_bf16

ROUNDS, ROWS, REPEATS = 15, 128, 20


def main() -> None:
    records = []
    for d, c, name, size, images, target in (
        (64, 10, "resnet32", 32, ROWS, "<= 0.005"), (2048, 1000, "timm:resnet50", 224, 8, "<= 0.01"),
    ):  # fmt: skip
        works = {"update": update(d, c), "sort": sets(d, by_sorting=True), "threshold": sets(d, by_sorting=False),
                 "step": step(name, c, size, images)}  # fmt: skip
        samples = interleaved(works, ROUNDS if d == 64 else 5)
        for key in ("update", "sort", "threshold"):
            samples[key] = [Sample(one.wall / REPEATS, one.cpu / REPEATS) for one in samples[key]]
        question = "top-K sets by a stable sort over by a threshold"
        records += [
            measure(f"monitor/{d}x{c}", f"update over a step of {name}", samples, "update", "step", target),
            measure(f"monitor_sets/{d}", question, samples, "sort", "threshold", ">= 1"),
        ]
    write(__file__, records)


def rows_of(d: int, c: int) -> tuple[torch.Tensor, MixedLabels, torch.nn.Linear]:
    torch.manual_seed(0)
    return torch.rand(ROWS, d), MixedLabels.hard(torch.randint(0, c, (ROWS,))), torch.nn.Linear(d, c)


def update(d: int, c: int) -> Callable[[], None]:
    z, target, head = rows_of(d, c)
    monitor = TopKMonitor(c, d)

    def work() -> None:
        for _ in range(REPEATS):
            monitor.update(z, target, head)

    return work


def sets(d: int, *, by_sorting: bool) -> Callable[[], None]:
    values = torch.randn(ROWS, d)

    def work() -> None:
        for _ in range(REPEATS):
            if by_sorting:
                ordered, order = torch.sort(values, dim=1, descending=True, stable=True)
                torch.zeros_like(values, dtype=torch.bool).scatter_(1, order[:, :10], ordered[:, :10] > 0)
            else:
                top_k_sets(values, 10)

    return work


def step(name: str, classes: int, size: int, images: int) -> Callable[[], None]:
    network = build_network(name, classes, size=(size, size), seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    batch = torch.randn(images, 3, size, size).contiguous(memory_format=torch.channels_last)
    ids, bf16 = torch.randint(0, classes, (images,)), has_bf16(torch.device("cpu"))

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(batch)
        torch.nn.functional.cross_entropy(logits.float(), ids).backward()
        optimizer.step()

    return work


if __name__ == "__main__":
    main()

"""What do several runs cost one another on one machine, and are several at once faster than one after another?

    python benchmarks/neighbours.py

Two ``digits_lt`` at once against one after the other, in CPU seconds of both; eight runs of one thread, ``--jobs 2``
against ``--jobs 1``, on the clock; and, in this process, a step on one thread over one on all, by the size of its
work, from which ``divaug.train.threads.ENOUGH`` was chosen.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from harness import interleaved, measure, write

from divaug.models import build_network
from divaug.train.build import has_bf16
from divaug.train.threads import multiply_adds

ROUNDS = 3
ONE = ["--method", "erm", "--epochs", "20", "--tracking", "off", "--quiet"]
EIGHT = ["--method", "erm", "--seeds", "0-7", "--tracking", "off", "--quiet"]
SIZES = ((8, 32, [32, 64]), (16, 32, [32, 64]), (16, 64, [32, 64]), (16, 32, [32, 64, 128]), (32, 32, [16, 32, 64]),
         (32, 32, [32, 64, 128]))  # side, rows, widths  # fmt: skip


def main() -> None:
    pair = interleaved({"together": lambda: digits(ONE, 2), "apart": lambda: (digits(ONE, 1), digits(ONE, 1))}, ROUNDS)
    many = interleaved(
        {"jobs 1": lambda: digits([*EIGHT, "--threads", "1"], 1), "jobs 2": lambda: digits([*EIGHT, "--jobs", "2"], 1)},
        2, warm=0,
    )  # fmt: skip
    write(__file__, [
        measure("together", "CPU seconds of two digits_lt at once over one after the other", pair, "together", "apart",
                "<= 1.2", of="cpu"),
        measure("jobs", "eight runs of one thread, one after another over --jobs 2", many, "jobs 1", "jobs 2",
                ">= 1.7"),
        *by_size(),
    ])  # fmt: skip


def digits(arguments: list[str], copies: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "divaug", "digits_lt", *arguments, "--output-dir", f"{folder}/{copy}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for copy in range(copies)
        ]  # fmt: skip
        if any(process.wait() for process in started):
            raise RuntimeError("a run failed")


def by_size() -> list[dict[str, Any]]:
    """Return a record for each size of step: what all threads gain. No target: it is what ENOUGH is read from."""
    everything, records = torch.get_num_threads(), []
    for side, rows, widths in SIZES:
        work, size = step(side, rows, widths)
        samples = interleaved({"one": on(1, work), "all": on(everything, work)}, 9, warm=2)
        torch.set_num_threads(everything)
        question = f"step of {size / 1e6:.0f} M multiply-adds, one thread over {everything}"
        records.append(measure(f"threads/{side}px{rows}x{len(widths)}", question, samples, "one", "all", None))
    return sorted(records, key=lambda record: record["value"])


def on(threads: int, work: Callable[[], None]) -> Callable[[], None]:
    def timed() -> None:
        torch.set_num_threads(threads)
        for _ in range(10):
            work()

    return timed


def step(side: int, rows: int, widths: list[int]) -> tuple[Callable[[], None], int]:
    network = build_network("whitened_cnn", 10, size=(side, side), seed=0, widths=widths)
    size = rows * multiply_adds(network, (3, side, side))
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stubs lack it
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images, ids = (
        torch.randn(rows, 3, side, side).contiguous(memory_format=torch.channels_last),
        torch.randint(0, 10, (rows,)),
    )
    bf16 = has_bf16(torch.device("cpu"))

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(images)
        torch.nn.functional.cross_entropy(logits.float(), ids).backward()
        optimizer.step()

    return work, size


if __name__ == "__main__":
    main()

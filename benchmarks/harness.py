"""What every benchmark shares: interleaved rounds, median ratios with their spread, and one JSON a question.

Works of a question alternate, each round in another order, so that a busy machine slows them alike. A ratio is the
median of the rounds' ratios. CPU seconds stand beside wall seconds: a work that waits for threads that spin looks fast.
"""

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Sample:
    """Seconds of one round of a work: on the clock, and of all its threads and finished children."""

    wall: float
    cpu: float


def _cpu() -> float:
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def interleaved(works: Mapping[str, Callable[[], Any]], rounds: int, *, warm: int = 1) -> dict[str, list[Sample]]:
    """Time works in turn.

    Args:
        works: What is timed, by name.
        rounds: Samples of each.
        warm: Rounds before them that are not timed.
    """
    names = list(works)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(-warm, rounds):
        order = names if number % 2 == 0 else names[::-1]
        for name in order:
            _synchronize()
            wall, cpu = time.perf_counter(), _cpu()
            works[name]()
            _synchronize()
            if number >= 0:
                samples[name].append(Sample(time.perf_counter() - wall, _cpu() - cpu))
    return samples


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(
    name: str,
    question: str,
    samples: Mapping[str, list[Sample]],
    over: str,
    under: str,
    target: str | None,
    *,
    of: str = "wall",
    **more: Any,
) -> dict[str, Any]:
    """Return the record of a ratio: of ``over`` to ``under``, round by round.

    Args:
        name: Of the measure.
        question: What the ratio means.
        samples: From ``interleaved``.
        over, under: Two of its works.
        target: For example ``<= 1.03``.
        of: ``wall`` or ``cpu`` seconds.
        **more: Kept in the record.
    """
    pairs = zip(samples[over], samples[under], strict=True)
    ratios = sorted(getattr(a, of) / getattr(b, of) for a, b in pairs)
    seconds = {key: round(statistics.median(getattr(s, of) for s in values), 6) for key, values in samples.items()}
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
    return value(
        name, question, statistics.median(ratios), target, quartiles=[round(low, 4), round(high, 4)],
        range=[round(ratios[0], 4), round(ratios[-1], 4)], n=len(ratios), seconds=seconds, **more,
    )  # fmt: skip


def value(name: str, question: str, number: float, target: str | None, **more: Any) -> dict[str, Any]:
    """Return the record of a number that is compared with a target such as ``<= 60``, or only told, without one."""
    sign, bound = (target or ">= -inf").split()
    met = number <= float(bound) if sign == "<=" else number >= float(bound)
    told = {"name": name, "question": question, "value": float(f"{number:.4g}"), "target": target}
    return {**told, "met": met if target else None, **more}


def write(script: str, records: list[dict[str, Any]]) -> None:
    """Write a script's records with the machine they are of, and print a line for each."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{Path(script).stem}.json"
    file.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n", encoding="utf-8")
    for record in records:
        print(line(record))


def line(record: Mapping[str, Any]) -> str:
    """Return a record as a line of the table."""
    spread = "[{:.4g}, {:.4g}]".format(*record["quartiles"]) if "quartiles" in record else ""
    said = {True: "met", False: "MISSED", None: ""}[record["met"]]
    number = f"{record['name']:<28} {record['value']:>9.4g} {spread:<20} {record['target'] or '':>9}"
    return f"{number}  {said:<7} {record['question']}"


def machine() -> dict[str, Any]:
    """Return what the figures are of."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        name = found[1] if found else name
    return {
        "processor": name, "processors": os.cpu_count(), "threads": torch.get_num_threads(),
        "bf16": bool(torch.cpu._is_avx512_bf16_supported()), "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }  # fmt: skip

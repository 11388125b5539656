"""What the checks of all families share: their outcome, their subject, and how to run one."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIGMAS = 4.5  # a correct rate is refused once in 150,000 times


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was checked.
        outcome: "pass", "fail", or "note" (allowed, worth knowing).
        reason: One line.
    """

    name: str
    outcome: str
    reason: str


class Failed(Exception):
    """A component breaks the contract; the message says how."""


def demand(ok: Any, reason: str) -> None:
    """Fail the check unless ``ok``."""
    if not bool(ok):
        raise Failed(reason)


def run(check: Callable[["Subject"], str], subject: "Subject") -> Check:
    """Run one check, named by its function."""
    name = check.__name__.replace("_", " ")
    state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - to see that it is left alone
    try:
        found = check(subject) or ""
        same = torch.equal(state[0], torch.get_rng_state())
        now = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
        if not same or not np.array_equal(state[1]["key"], now["key"]) or state[1]["pos"] != now["pos"]:
            raise Failed("draws from torch's or numpy's global generator; draw from the rng argument instead")
    except Failed as failure:
        return Check(name, "fail", str(failure))
    except Exception as error:  # whatever a user's component raises is the finding
        return Check(name, "fail", f"raises {type(error).__name__}: {error}")
    return Check(name, "note" if found.startswith("note: ") else "pass", found.removeprefix("note: "))


@dataclass(frozen=True)
class Subject:
    """A component under test: how to build it, its facts, and whether it is meant to do nothing, by its name."""

    make: Callable[[], Any]
    facts: Mapping[str, Any]
    idle: bool

    def labels(self, rows: int) -> Tensor:
        """Return labels for rows, the largest class first and the smallest last."""
        known = self.facts["labels"].sort().values
        return known[torch.linspace(0, len(known) - 1, rows).long()]


def pictures(rows: int, height: int, width: int, channels: int) -> Tensor:
    """Return random images, always the same ones."""
    generator = torch.Generator().manual_seed(rows + height + channels)
    return torch.randint(0, 256, (rows, height, width, channels), dtype=torch.uint8, generator=generator)


def rng(number: int) -> np.random.Generator:
    """Return the generator of a step."""
    return np.random.default_rng([7, number])


def speed(do: Callable[[], Any], rows: int) -> float:
    """Return rows per second: the median of five runs after a warm-up run."""
    do()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started)
    return rows / sorted(seconds)[2]

"""What the checks of all families share: their outcome, their subject, and how to run one."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divaug.base.errors import ConfigError

SIGMAS = 4.5  # a correct rate is refused once in 150,000 times
SECONDS = 120.0  # for one check; ours take a few on an idle machine


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


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Fail what takes longer, by an alarm; without a limit outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise Failed(f"takes longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, if the component catches it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(check: Callable[["Subject"], str], subject: "Subject", *, may_draw: bool = False) -> Check:
    """Run one check, named by its function; ``may_draw`` allows draws from torch's global generator."""
    name = check.__name__.replace("_", " ")
    state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - to see that it is left alone
    try:
        with _limit(SECONDS):
            found = check(subject) or ""
        same = may_draw or torch.equal(state[0], torch.get_rng_state())
        now = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
        if not same or not np.array_equal(state[1]["key"], now["key"]) or state[1]["pos"] != now["pos"]:
            raise Failed("draws from torch's or numpy's global generator; draw from the rng argument instead")
    except Failed as failure:
        return Check(name, "fail", str(failure))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's component raises is the finding, sys.exit included
        kind = "" if isinstance(error, ConfigError) else f"raises {type(error).__name__}: "
        return Check(name, "fail", f"{kind}{error}")
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

"""Where many runs go: how many at once on this machine, to a Ray cluster, or this machine's share of them."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError

MEMORY_OF_A_RUN = 2 * 2**30  # bytes, with room: runs of small networks were seen to hold 0.7 to 1.3 GiB


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster.

    Attributes:
        address: Of its head, ``auto`` for the one that this machine belongs to, or ``local`` to start one here.
        cpus, gpus: What a run takes; shares of a GPU let several runs use it at once.
    """

    address: str
    cpus: float
    gpus: float


def add_engine(group: Any) -> None:
    """Add the flags for runs on other machines."""
    group.add_argument("--engine", choices=("local", "ray"), default="local", help="where runs go (default: local)")
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="a Ray cluster's head, or auto for the one that runs here (default: start one)",
    )
    group.add_argument("--cpus-per-run", type=float, metavar="X", help="with ray: processors of a run (default: 1)")
    group.add_argument(
        "--gpus-per-run", type=float, metavar="X", help="with ray: GPUs of a run (default: 0, and it sees none)"
    )
    text = "train every N-th run only, from the I-th: one share per machine; the table is of what is finished"
    group.add_argument("--shard", metavar="I/N", help=text)


def engine_of(extra: Mapping[str, Any], runs: int, threads: int = 0, device: str = "auto") -> "int | Cluster":
    """Return where runs go, from the flags of ``add_jobs`` and ``add_engine``.

    Args:
        extra: The flags.
        runs: Runs there are.
        threads: Threads that were asked for, 0 for auto.
        device: The device that was asked for.

    Raises:
        ConfigError: A value out of range, or flags that have no effect with the others.
    """
    if processes() > 1:
        if extra["engine"] == "ray" or extra["jobs"] != "1":
            raise ConfigError("torchrun starts one run over several processes; without it give --jobs or --engine ray")
        return 1
    of_ray = {name: extra[name] for name in ("ray_address", "cpus_per_run", "gpus_per_run")}
    if extra["engine"] == "local":
        if idle := [name for name, value in of_ray.items() if value is not None]:
            raise ConfigError(f"--{idle[0].replace('_', '-')} has no effect here; use it with --engine ray")
        return jobs_of(extra["jobs"], runs, threads, device)
    if extra["jobs"] != "1":
        raise ConfigError("--jobs is for this machine; with --engine ray give --cpus-per-run or --gpus-per-run")
    cpus, gpus = (1.0 if of_ray["cpus_per_run"] is None else of_ray["cpus_per_run"]), of_ray["gpus_per_run"] or 0.0
    if not (0 < cpus < 1e4 and 0 <= gpus < 1e4):
        raise ConfigError(f"--cpus-per-run must be > 0 and --gpus-per-run >= 0, got {cpus:g} and {gpus:g}")
    if threads > cpus:
        raise ConfigError(f"--threads {threads} needs --cpus-per-run {threads} or more, got {cpus:g}")
    return Cluster(of_ray["ray_address"] or "local", cpus, gpus)


def processes() -> int:
    """Return the number of processes that torchrun started for this run, 1 without it."""
    told = {
        "RANK",
        "LOCAL_RANK",
        "MASTER_ADDR",
        "MASTER_PORT",
    } <= os.environ.keys()  # WORLD_SIZE alone: a batch system's
    return int(os.environ.get("WORLD_SIZE", "1")) if told else 1


def follows() -> bool:
    """Return whether this process is one of several and not the first, which alone writes and prints."""
    return processes() > 1 and int(os.environ.get("RANK", "0")) > 0


def share(shard: str | None) -> slice:
    """Return which runs of a list are this machine's: all, or, of I/N, every N-th from the I-th.

    Raises:
        ConfigError: It is no I/N with 1 <= I <= N.
    """
    if shard is None:
        return slice(None)
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard must be I/N with 1 <= I <= N, for example 2/4, got {shard!r}")
    return slice(int(found[1]) - 1, None, int(found[2]))


def add_jobs(group: Any, default: str = "1") -> None:
    """Add the flag for many runs at once."""
    text = f"runs at once, one thread each; auto: one a processor, as memory allows, one on a GPU (default: {default})"
    group.add_argument("--jobs", default=default, metavar="auto|N", help=text)


def jobs_of(jobs: str, runs: int = sys.maxsize, threads: int = 0, device: str = "auto") -> int:
    """Return the number of runs at once.

    Args:
        jobs: A number, or ``auto``.
        runs: Runs there are.
        threads: Threads that were asked for, 0 for auto.
        device: The device that was asked for: how many runs a card's memory holds is for the user to say.

    Raises:
        ConfigError: ``jobs`` is something else, or several jobs of several threads are asked for.
    """
    if jobs == "auto":
        number = 1 if threads > 1 or _on_card(device) else most_jobs(runs)
    elif jobs.isdecimal() and int(jobs) >= 1:
        number = int(jobs)
    else:
        raise ConfigError(f"--jobs must be auto or a whole number >= 1, got {jobs}")
    if number > 1 and threads > 1:
        raise ConfigError(f"--jobs {number} gives each run one thread, so --threads {threads} has no effect; drop one")
    return number


def _on_card(device: str) -> bool:
    if device == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


def most_jobs(runs: int) -> int:
    """Return how many of a number of runs fit this machine at once: one a processor, and memory for each."""
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(runs, processors, free_memory() // MEMORY_OF_A_RUN))


def free_memory() -> int:
    """Return the bytes of memory that are available here: the machine's, or what a container has left."""
    free = [sys.maxsize]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
        free.append(1024 * int(lines["MemAvailable"].split()[0]))
        group = Path("/sys/fs/cgroup")
        bound, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        free.append(max(0, int(bound) - int(used)))  # ValueError: no bound
    except (OSError, KeyError, ValueError):
        pass
    return min(free)

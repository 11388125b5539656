"""One run over several processes that torchrun starts: each has a share of every batch's rows.

Every process draws the whole batch and makes it ready, which costs a few hundredths of a step, and takes its rows.
So draws and counts are those of one process whatever their number. Gradients are summed over a loss whose denominator
is the whole batch's: the mean of the processes' own losses would be another number. Batch normalisation is of each
process's own rows, with the buffers of the first process at the end of every epoch.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from divaug.base.errors import ConfigError, DivaugError
from divaug.config.jobs import processes
from divaug.config.schema import Config
from divaug.data.load import Data
from divaug.latent.monitor import TopKMonitor

FEWEST = 8  # rows of a batch for every process: a last batch of a quarter leaves two, which batch normalisation needs
WAIT = timedelta(minutes=30)  # for a process that reads its images


class Ranks:
    """The processes of a run.

    Attributes:
        rank: This process, from 0; the first one owns folder and tracking.
        size: How many there are; 1 for a process of its own, for which every method does nothing.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def rows(self, count: int) -> slice:
        """Return this process's share of a batch's rows: contiguous, sizes differing by at most one."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a value over all processes, on each; it carries no gradient with several."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        _all_reduce(value)
        return value

    def sum_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its sum over the processes, in one message.

        A layer that was skipped here may have been used elsewhere; one that was skipped everywhere keeps None.
        """
        if self.size == 1:
            return
        trained = [p for p in network.parameters() if p.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flat = torch.cat([used, *(part.flatten() for part in parts)])
        _all_reduce(flat)
        used, *sums = flat.split([len(used), *(part.numel() for part in parts)])
        for parameter, count, total in zip(trained, used.tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter).clone() if count else None

    def any(self, here: bool) -> bool:
        """Return whether something is so in any process; all get the same answer."""
        return here if self.size == 1 else bool(self.total(torch.tensor(int(here))))

    def agree(self, where: Mapping[str, Any]) -> None:
        """Make sure that all processes are at the same place, before their gradients are added up.

        Raises:
            DivaugError: They are not: their folders are not on one file system, or a row was added meanwhile.
        """
        if self.size == 1:
            return
        places: list[Any] = [None] * self.size
        dist.all_gather_object(places, dict(where))
        for rank, place in enumerate(places):
            if changed := [key for key, value in places[0].items() if place[key] != value]:
                told = ", ".join(f"{key} {place[key]!r} instead of {places[0][key]!r}" for key in changed)
                raise DivaugError(
                    f"process {rank} is not in the run of the first: {told}; all need the same run folder, on a file "
                    "system that they share"
                )

    def same_buffers(self, network: nn.Module) -> None:
        """Give every process the buffers of the first: running means and variances."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def merge(self, monitor: TopKMonitor | None) -> None:
        """Add up what the processes' monitors counted, in each of them; counts exactly, sums within rounding."""
        if self.size > 1 and monitor is not None:
            counts = monitor.counts
            for tensor in (counts.incidence, counts.n, counts.sums):
                _all_reduce(tensor)
            _all_reduce(counts.lowest, dist.ReduceOp.MIN)
            _all_reduce(counts.highest, dist.ReduceOp.MAX)

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.any(here=False)


ALONE = Ranks()


def join(device: str = "auto") -> Ranks:
    """Meet the other processes that torchrun started, once; alone without it.

    Args:
        device: The device that was asked for: no card is touched for ``cpu``.

    Raises:
        DivaugError: They cannot be reached, or there are more of them than cards here.
    """
    if processes() == 1:
        return ALONE
    if not dist.is_initialized():
        cards, mine = device != "cpu" and torch.cuda.is_available(), int(os.environ["LOCAL_RANK"])
        if cards and mine >= torch.cuda.device_count():
            raise DivaugError(
                f"process {mine} on this machine has no card of its own, of {torch.cuda.device_count()}: start as many "
                "processes as cards, or give --device cpu"
            )
        try:
            if cards:
                torch.cuda.set_device(mine)
            dist.init_process_group("cpu:gloo,cuda:nccl" if cards else "gloo", timeout=WAIT)
        except (RuntimeError, ValueError) as error:
            raise DivaugError(f"the processes of torchrun cannot meet: {error}") from error
    return Ranks(dist.get_rank(), dist.get_world_size())


def own_device(name: str) -> str:
    """Return the device of this process: of several on CUDA, each has its own."""
    several = processes() > 1 and name in ("auto", "cuda") and torch.cuda.is_available()
    return f"cuda:{os.environ['LOCAL_RANK']}" if several else name


def check(config: Config, ranks: Ranks, data: Data | None = None) -> None:
    """Refuse what several processes cannot do.

    Args:
        config: What is asked for.
        ranks: The processes.
        data: The data, once they are known.

    Raises:
        ConfigError: It is asked for.
    """
    if ranks.size == 1:
        return
    phases = [config, *config.phases]
    parts = {slot: {_named(phase, slot) for phase in phases} - {None, "none"} for slot in ("feature", "pixel")}
    rows, streams = config.batch_size, config.loader == "streaming" or config.workers > 0
    if data is not None:
        rows = min(rows, len(data.train.labels))
        streams = streams or not isinstance(data.train.images, np.ndarray)
    for what, refused in (
        (f"feature {', '.join(sorted(map(str, parts['feature'])))}", bool(parts["feature"])),
        ("pixel cuda, which learns", "cuda" in parts["pixel"]),
        ("the streaming loader, by which each would read all images", streams),
        (f"train {config.train}", config.train != "full"),
        (f"device {config.device}: give auto, cpu or cuda", config.device.startswith("cuda:")),
        (f"a batch of {rows} rows: at least {FEWEST} for each", rows < FEWEST * ranks.size),
    ):
        if refused:
            raise ConfigError(f"a run over {ranks.size} processes does not support {what}; run it in one process")


def check_learning(pixels: Iterable[Any], ranks: Ranks) -> None:
    """Refuse pixel components that learn between epochs, under whatever name: each process would learn for itself.

    Raises:
        ConfigError: There are several processes, and one learns.
    """
    if ranks.size > 1 and (learning := [type(pixel).__name__ for pixel in pixels if pixel.learns]):
        what = f"pixel {learning[0]}, which learns"
        raise ConfigError(f"a run over {ranks.size} processes does not support {what}; run it in one process")


def _named(phase: Any, slot: str) -> str | None:
    if isinstance(phase, Config):
        return getattr(phase, slot).name
    return phase.components[slot].name if slot in phase.components else None


def _all_reduce(tensor: Tensor, how: Any = dist.ReduceOp.SUM) -> None:
    try:
        dist.all_reduce(tensor, how)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise DivaugError(
            f"the processes of the run cannot go on together ({first}); the same command resumes it"
        ) from error

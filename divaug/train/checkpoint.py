"""Checkpoints: written atomically, read without running code from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from divaug.base.errors import DivaugError
from divaug.base.files import write_tensors
from divaug.train.step import Stage, Totals


def save(
    path: Path,
    *,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stages: Sequence[Stage],
    monitors: Sequence[Any] = (),
    totals: Totals | None = None,
) -> None:
    """Write atomically the state from which ``epoch`` goes on: at its beginning, or with ``totals`` in its middle.

    A crash leaves the old checkpoint or the new one, whole. No generator state is needed: streams are stateless.
    """
    state = {
        "epoch": epoch,
        "threads": torch.get_num_threads(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "features": [stage.feature.state_dict() for stage in stages],
        "pixels": [getattr(stage.pixel, "state_dict", dict)() for stage in stages],
        "totals": None if totals is None else vars(totals),
        "monitors": [] if totals is None else [monitor.state_dict() for monitor in monitors],
    }
    write_tensors(path, state)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything but tensors and plain values.

    Raises:
        DivaugError: The file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ... by kind of damage
        raise DivaugError(f"checkpoint {path} cannot be read ({error}); delete it to start the run anew") from error


def load(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stages: Sequence[Stage],
    monitors: Sequence[Any] = (),
) -> tuple[int, Totals | None, int]:
    """Restore what ``save`` wrote; return the epoch to go on with, its totals so far, and the threads of the writer."""
    state = read_checkpoint(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for stage, feature, pixel in zip(stages, state["features"], state["pixels"], strict=True):
        stage.feature.load_state_dict(feature)
        if pixel:
            stage.pixel.load_state_dict(pixel)
    for monitor, counted in zip(monitors, state["monitors"], strict=bool(state["monitors"])):
        monitor.load_state_dict(counted)
    totals = None if state["totals"] is None else Totals(**state["totals"])
    return state["epoch"], totals, state["threads"]

"""Checkpoints: written atomically, read without running code from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from divaug.base.contracts import Monitor
from divaug.base.errors import DivaugError
from divaug.base.files import write_tensors
from divaug.models.network import Network
from divaug.train.step import Stage, Totals


@dataclass(frozen=True)
class State:
    """What a checkpoint keeps and restores.

    Attributes:
        model: The network; everything is restored to its device.
        optimizer: The optimiser.
        stages: The components of all phases; those that learn have state.
        monitors: What counts within an epoch.
    """

    model: Network
    optimizer: torch.optim.Optimizer
    stages: Sequence[Stage]
    monitors: Sequence[Monitor] = ()


def save(path: Path, state: State, *, epoch: int, totals: Totals | None = None) -> None:
    """Write the state from which ``epoch`` continues, atomically: at its beginning or, with ``totals``, in its middle.

    A crash leaves the old checkpoint or the new one intact. No generator state is needed: streams are stateless.
    """
    content = {
        "epoch": epoch,
        "threads": torch.get_num_threads(),
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "features": [stage.feature.state_dict() for stage in state.stages],
        "pixels": [dict(stage.pixel.state_dict()) for stage in state.stages],
        "totals": None if totals is None else vars(totals.to("cpu")),
        "monitors": [] if totals is None else [monitor.state_dict() for monitor in state.monitors],
    }
    write_tensors(path, content)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything but tensors and plain values.

    Raises:
        DivaugError: The file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ... depending on the damage
        raise DivaugError(f"checkpoint {path} cannot be read ({error}); delete it to restart the run") from error


def load(path: Path, state: State) -> tuple[int, Totals | None, int]:
    """Restore what ``save`` wrote; return the epoch to continue with, its totals and the writer's threads."""
    content = read_checkpoint(path)
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    for stage, feature, pixel in zip(state.stages, content["features"], content["pixels"], strict=True):
        stage.feature.load_state_dict(feature)
        stage.pixel.load_state_dict(pixel)
    for monitor, counted in zip(state.monitors, content["monitors"], strict=bool(content["monitors"])):
        monitor.load_state_dict(counted)
    device = next(state.model.parameters()).device
    totals = None if content["totals"] is None else Totals(**content["totals"]).to(device)
    return content["epoch"], totals, content["threads"]

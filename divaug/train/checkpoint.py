"""Checkpoints: written atomically, read without running code from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from divaug.base.contracts import Monitor
from divaug.base.errors import DivaugError
from divaug.base.files import read_tensors, write_tensors
from divaug.config.jobs import processes
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
        run: What the training is, in plain values; a checkpoint of another one is refused.
    """

    model: Network
    optimizer: torch.optim.Optimizer
    stages: Sequence[Stage]
    monitors: Sequence[Monitor] = ()
    run: Mapping[str, Any] = field(default_factory=dict)


def save(path: Path, state: State, *, epoch: int, totals: Totals | None = None) -> None:
    """Write the state from which ``epoch`` continues, atomically: at its beginning or, with ``totals``, in its middle.

    A crash leaves the old checkpoint or the new one intact. No generator state is needed: streams are stateless.
    """
    content = {
        "run": dict(state.run),
        "epoch": epoch,
        "threads": torch.get_num_threads(),
        "processes": processes(),
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "features": [stage.feature.state_dict() for stage in state.stages],
        "pixels": [dict(stage.pixel.state_dict()) for stage in state.stages],
        "others": [
            {slot: part.state_dict() for slot in _OTHERS if isinstance(part := getattr(stage, slot), nn.Module)}
            for stage in state.stages
        ],
        "totals": None if totals is None else vars(totals.to("cpu")),
        "monitors": [] if totals is None else [monitor.state_dict() for monitor in state.monitors],
    }
    write_tensors(path, content)


_OTHERS = ("sampler", "mix", "criterion")  # divaug's own have no state, but a user's may have buffers
_KINDS = {
    "run": dict, "epoch": int, "threads": int, "model": dict, "optimizer": dict, "features": list, "pixels": list,
    "monitors": list,
}  # fmt: skip


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything but tensors and plain values.

    Raises:
        DivaugError: The file is damaged, or not a checkpoint.
    """
    try:
        content = read_tensors(path)
        wrong = [
            k for k, kind in _KINDS.items() if not isinstance(content, dict) or not isinstance(content.get(k), kind)
        ]
        if wrong:
            raise ValueError(f"it has no {wrong[0]}, or a wrong one")
    except (OSError, ValueError) as error:
        raise DivaugError(f"checkpoint {path} cannot be read ({error}); delete it to restart the run") from error
    return content


def load(path: Path, state: State) -> tuple[int, Totals | None, dict[str, int]]:
    """Restore what ``save`` wrote; return the epoch to continue with, its totals, and the writer's threads, processes.

    Raises:
        DivaugError: The file is damaged, or belongs to another run.
    """
    content = read_checkpoint(path)
    other = [f"{key} {content['run'].get(key)!r} instead of {value!r}" for key, value in state.run.items()
             if content["run"].get(key) != value]  # fmt: skip
    if other:
        raise DivaugError(
            f"checkpoint {path} belongs to another run: {', '.join(other)}; bring the right one back, or delete it to "
            "restart the run"
        )
    try:
        state.model.load_state_dict(content["model"])
        state.optimizer.load_state_dict(content["optimizer"])
        for stage, feature, pixel in zip(state.stages, content["features"], content["pixels"], strict=True):
            stage.feature.load_state_dict(feature)
            stage.pixel.load_state_dict(pixel)
        for stage, others in zip(state.stages, content.get("others", [{}] * len(state.stages)), strict=True):
            for slot, kept in others.items():
                getattr(stage, slot).load_state_dict(kept)
        for monitor, counted in zip(state.monitors, content["monitors"], strict=bool(content["monitors"])):
            monitor.load_state_dict(counted)
        device = next(state.model.parameters()).device
        totals = None if content["totals"] is None else Totals(**content["totals"]).to(device)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise DivaugError(
            f"checkpoint {path} does not fit this run ({first}): it was written by another program or version; "
            "delete it to restart the run"
        ) from error
    return content["epoch"], totals, {"threads": content["threads"], "processes": content.get("processes", 1)}

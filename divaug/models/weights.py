"""Weights from a file, without running code from it."""

from pathlib import Path

import torch
from torch import nn

from divaug.base.errors import ConfigError


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Load a state dict into a model, refusing anything but tensors and plain values; return the model.

    The state may be under ``model``, ``state_dict`` or ``model_state_dict``, and every name may have the prefix
    ``module.`` that DataParallel adds.

    Raises:
        ConfigError: The file cannot be read, or its tensors are not the model's.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ... depending on the damage
        raise ConfigError(f"weights {path} cannot be read without running code from the file: {error}") from error
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        model.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(f"weights {path} do not fit the model: {error}") from error
    return model

"""Weights from a file, without running code from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from divaug.base.errors import ConfigError

CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.", "last_linear.", "linear.")  # left out of pretrained weights


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Load a state dict into a model, refusing anything but tensors and plain values; return the model.

    The state may be under ``model``, ``state_dict`` or ``model_state_dict``, and every name may have the prefix
    ``module.`` that DataParallel adds.

    Raises:
        ConfigError: The file cannot be read, or its tensors are not the model's.
    """
    state = read_state(path)
    try:
        model.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    except (RuntimeError, AttributeError) as error:
        raise ConfigError(f"weights {path} do not fit the model: {error}") from error
    return model


def read_state(path: str | Path) -> Mapping[str, Any]:
    """Return the tensors of a file by name.

    Args:
        path: A file of safetensors, or of torch with tensors and plain values only.

    Raises:
        ConfigError: The file cannot be read without running code from it.
    """
    if not Path(path).is_file():
        raise ConfigError(f"weights {path}: there is no such file")
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ... depending on the damage
        raise ConfigError(
            f"weights {path} cannot be read ({type(error).__name__}): a file of safetensors is needed, or one of torch "
            "with nothing but tensors and plain values; other content could run code"
        ) from error
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return state


def load_backbone(backbone: nn.Module, path: str | Path) -> list[str]:
    """Load pretrained weights into a backbone; every tensor of it must be in the file, in its shape.

    Names may have a prefix that a wrapper adds (``module.``, ``model.``, ``backbone.``). The classifier's tensors
    (``fc``, ``head``, ``classifier``, ...) are left out, and nothing else is.

    Args:
        backbone: Changed in place.
        path: See ``read_state``; a model folder's ``weights.safetensors`` is one.

    Returns:
        The names that were left out.

    Raises:
        ConfigError: The file cannot be read, lacks tensors of the backbone, or has others beside its classifier's.
    """
    state = read_state(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"weights {path} are no table of tensors by name")
    target = backbone.state_dict()
    known = {_bare(name): name for name in target}
    found = {known[bare]: tensor for name, tensor in state.items() if (bare := _bare(name)) in known}
    left = [name for name in state if _bare(name) not in known]
    if len(state) - len(left) > len(found):
        raise ConfigError(f"weights {path} hold some tensors twice, under several prefixes: keep one network")
    missing = [name for name in target if name not in found and not name.endswith("num_batches_tracked")]
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(target[name].shape)}"
        for name, tensor in found.items()
        if tensor.shape != target[name].shape
    ]
    unknown = [name for name in left if not _bare(name).startswith(CLASSIFIERS)]
    for names, problem in ((wrong, "have tensors of other shapes"), (missing, "lack"), (unknown, "have no place for")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ConfigError(
                f"weights {path} do not fit the network: they {problem}: {', '.join(names[:3])}{more}; "
                "--model names the network, --image-size its size"
            )
    backbone.load_state_dict(found, strict=False)  # all but counters of batches, as was seen to
    return left


def _bare(name: str) -> str:
    """Return a tensor's name without the prefixes of wrappers."""
    while (rest := name.removeprefix("module.").removeprefix("backbone.").removeprefix("model.")) != name:
        name = rest
    return name

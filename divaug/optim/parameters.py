"""Which parameters decay: the groups that every optimiser is built on."""

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, *, weight_decay: float, decay_norms: bool) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: those that decay and those that do not.

    Args:
        model: The network.
        weight_decay: L2 decay.
        decay_norms: Apply decay to vectors (biases, normalisation layers) too.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if decay_norms or p.ndim > 1]
    spared = [p for p in trainable if not (decay_norms or p.ndim > 1)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]

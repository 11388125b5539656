"""Losses: logits and hard labels in, one loss per row out.

A loss is an ``nn.Module`` called as ``loss(logits, ids)``. It returns float32 ``(B,)`` and never reduces:
``divaug.mixed_loss`` does that, with label weights and class weights.

Example:
    >>> import torch
    >>> from divaug.losses import BalancedSoftmax
    >>> loss = BalancedSoftmax(torch.tensor([900, 100]))
    >>> rows = loss(torch.zeros(2, 2), torch.tensor([0, 1]))  # -log of the classes' shares, 0.9 and 0.1
    >>> [round(value, 3) for value in rows.tolist()]
    [0.105, 2.303]
"""

from divaug.config.source import lazy

__getattr__, __dir__ = lazy("divaug.losses", "LOSSES")

"""The learning rate as a pure function of training progress."""

import math
from collections.abc import Sequence


def learning_rate(
    schedule: str,
    *,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    lr: float,
    warmup_frac: float,
    milestones: Sequence[float] = (),
    drop: float = 0.1,
) -> float:
    """Return the learning rate of one step, counted from 0 over the whole training.

    ``step`` changes only between epochs: epoch e of the first W = round(warmup_frac * epochs) has lr * (e + 1) / W,
    later ones lr * drop ** (milestones passed), where milestone m is passed at epoch round(m * epochs). The others
    change every step: a linear rise over the warm-up, then ``constant``, ``cosine`` to 0, or ``triangular``, linear
    to 0.

    Raises:
        ValueError: Unknown schedule.
    """
    if schedule == "step":
        epoch, warmup = step // steps_per_epoch, round(warmup_frac * epochs)
        if epoch < warmup:
            return lr * (epoch + 1) / warmup
        return lr * drop ** sum(epoch >= round(m * epochs) for m in milestones)
    total = steps_per_epoch * epochs
    warmup = round(warmup_frac * total)
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    match schedule:
        case "constant":
            return lr
        case "cosine":
            return lr * (1 + math.cos(math.pi * done)) / 2
        case "triangular":
            return lr * (1 - done)
    raise ValueError(f"schedule must be constant, cosine, step or triangular, got {schedule!r}")

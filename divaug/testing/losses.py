"""The contract of the family ``losses``."""

import pickle
from typing import Any

import torch
from torch import Tensor, nn

from divaug.testing.kit import Subject, demand


def _case(subject: Subject, rows: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    classes = subject.facts["num_classes"]
    logits = scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(rows))
    return logits, torch.arange(rows) % classes


def one_loss_per_row(subject: Subject) -> str:
    loss = subject.make()
    demand(isinstance(loss, nn.Module), f"is a {type(loss).__name__}, not an nn.Module")
    for rows in (1, 2, 7):
        logits, ids = _case(subject, rows)
        values: Any = loss(logits, ids)
        demand(torch.is_tensor(values), f"returns {type(values).__name__} instead of a tensor")
        demand(values.shape == (rows,), f"returns {tuple(values.shape)} for {rows} rows: one loss per row, not reduced")
        demand(values.dtype == torch.float32, f"returns {values.dtype}, must be float32")
    return "B = 1, 2, 7; float32, not reduced"


def finite_with_gradient(subject: Subject) -> str:
    loss, lowest = subject.make(), 0.0
    for scale in (0.0, 1.0, 100.0, -100.0):
        logits, ids = _case(subject, 7, scale)
        leaf = logits.requires_grad_()
        values = loss(leaf, ids)
        demand(torch.isfinite(values).all(), f"is not finite for logits of about {scale:g}")
        demand(values.requires_grad, "the gradient to the logits is cut off")
        values.sum().backward()
        demand(leaf.grad is not None and torch.isfinite(leaf.grad).all(), "the gradient is missing or not finite")
        lowest = min(lowest, values.min().item())
    return "note: negative for some logits; is this intended?" if lowest < -1e-5 else "finite, with its gradient"


def float32_under_autocast(subject: Subject) -> str:
    loss = subject.make()
    logits, ids = _case(subject, 5)
    with torch.autocast("cpu", torch.bfloat16):
        values = loss(logits.bfloat16(), ids)
    demand(values.dtype == torch.float32, f"returns {values.dtype} under autocast, must be float32")
    return "bfloat16 logits give a float32 loss"


def rows_apart(subject: Subject) -> str:
    loss = subject.make()
    logits, ids = _case(subject, 6)
    before = logits.clone()
    alone = torch.cat([loss(logits[i : i + 1], ids[i : i + 1]) for i in range(6)])
    demand(torch.allclose(loss(logits, ids), alone, atol=1e-5), "a row's loss depends on the other rows")
    demand(torch.equal(logits, before), "modifies the logits")
    return "rows do not influence one another"


def state(subject: Subject) -> str:
    loss = subject.make()
    logits, ids = _case(subject, 4)
    again = pickle.loads(pickle.dumps(loss))
    demand(torch.equal(loss(logits, ids), again(logits, ids)), "a pickled copy gives other losses")
    loose = [name for name, value in vars(loss).items() if isinstance(value, Tensor)]
    demand(not loose, f"{loose} are not buffers: they would stay on the CPU")
    return "pickles; tensors are buffers"


CHECKS = (one_loss_per_row, finite_with_gradient, float32_under_autocast, rows_apart, state)

"""What a step is made of, and what is counted of it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from divaug.base.errors import DivaugError


@dataclass
class Totals:
    """What an epoch has seen so far; part of a checkpoint, so that an epoch can be resumed in its middle.

    Attributes:
        steps: Steps done.
        rows: Rows seen.
        loss: Sum of the losses of the steps, each times its rows.
        correct: Rows whose dominant label was predicted.
        seen: Rows of each label that the loop saw, ``(C,)``, before any mixing.
        mass: Label mass of each class after mixing and feature augmentation, ``(C,)``.
        augmented: Rows of each label whose picture the pixel component altered, ``(C,)``.
        receivers: Rows of each label that another picture was mixed into, ``(C,)``.
        givers: Rows that a picture of each label was mixed into, ``(C,)``.
        synthetic: Label mass that feature augmentation added to each class, ``(C,)``.
        visits: How often each picture of the training cut was a row, ``(N,)``.
        donations: How often each picture of the training cut was a donor, ``(N,)``.
        seconds: Seconds spent on it before it was interrupted.
    """

    steps: int
    rows: int
    loss: float
    correct: int
    seen: Tensor
    mass: Tensor
    augmented: Tensor
    receivers: Tensor
    givers: Tensor
    synthetic: Tensor
    visits: Tensor
    donations: Tensor
    seconds: float = 0.0

    @classmethod
    def empty(cls, num_classes: int, pictures: int) -> "Totals":
        """Return the totals of an epoch that has not begun."""

        def zeros(size: int, kind: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(size, dtype=kind)

        return cls(
            0, 0, 0.0, 0, zeros(num_classes), zeros(num_classes, torch.float64), zeros(num_classes), zeros(num_classes),
            zeros(num_classes), zeros(num_classes, torch.float64), zeros(pictures), zeros(pictures),
        )  # fmt: skip

    def count(self, batch: Any, mixed: Any, target: Any) -> None:
        """Count one step: its batch, the labels after mixing, and those after feature augmentation."""
        num_classes = len(self.seen)

        def by_class(ids: Tensor) -> Tensor:
            return torch.bincount(ids.cpu(), minlength=num_classes)

        self.rows += len(batch.labels)
        self.seen += by_class(batch.labels)
        self.augmented += by_class(batch.labels[batch.changed])
        pairs = mixed.is_mixed()
        self.receivers += by_class(mixed.ids[pairs, 0])
        if mixed.ids.shape[1] > 1:
            self.givers += by_class(mixed.ids[pairs, 1:].flatten())
        mass = target.mass(num_classes).cpu()
        self.mass += mass
        self.synthetic += mass - mixed.mass(num_classes).cpu()
        self.visits += torch.bincount(torch.from_numpy(batch.indices), minlength=len(self.visits))
        if batch.donors is not None:
            used = batch.donors.indices[pairs.cpu().numpy()]
            self.donations += torch.bincount(torch.from_numpy(used), minlength=len(self.donations))


@dataclass(frozen=True)
class Stage:
    """The components of a phase of training, built.

    Attributes:
        start: First epoch of the phase.
        sampler, pixel, mix, feature, criterion: Components.
        class_weights: Weights of classes in the loss, or None.
    """

    start: int
    sampler: Any
    pixel: Any
    mix: Any
    feature: nn.Module
    criterion: nn.Module
    class_weights: Tensor | None


def check_gradient(model: nn.Module, loss: Tensor, epoch: int, step: int, labels: Tensor, lr: float) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not torch.isfinite(norm):
        raise DivaugError(
            f"the gradient is not finite (norm {norm.item()}, loss {loss.item()}) at epoch {epoch}, step {step}, "
            f"learning rate {lr:.3g}, labels {labels.tolist()}; lower --lr, or use --precision fp32"
        )

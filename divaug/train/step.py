"""The components of a step, what is counted, and what stops training."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divaug.base.contracts import Batch, Feature, Loss, Sampler, WholeMix, WholePixel
from divaug.base.errors import DivaugError, DivergedError, broken
from divaug.base.labels import MixedLabels


@dataclass(frozen=True)
class Stage:
    """The built components of a phase of training.

    Attributes:
        start: First epoch of the phase.
        sampler, pixel, mix, feature, criterion: Components.
        class_weights: Weights of classes in the loss, or None.
    """

    start: int
    sampler: Sampler
    pixel: WholePixel
    mix: WholeMix
    feature: Feature
    criterion: Loss
    class_weights: Tensor | None


@dataclass
class Totals:
    """What an epoch has seen so far; part of a checkpoint, so that an epoch can be resumed in its middle.

    Tensors are on the device of the images and are read once per epoch, so that no step waits for the device.

    Attributes:
        steps: Steps done.
        rows: Rows seen.
        loss: Sum over steps of loss times rows, float64.
        correct: Rows whose dominant label was predicted.
        seen: Rows of each label before mixing, ``(C,)``.
        mass: Label mass of each class after mixing and feature augmentation, ``(C,)``.
        augmented: Rows of each label whose image the pixel component altered, ``(C,)``.
        receivers: Rows of each label that another image was mixed into, ``(C,)``.
        givers: Rows that an image of each label was mixed into, ``(C,)``.
        synthetic: Label mass that feature augmentation added to each class, ``(C,)``.
        visits: How often each image of the training cut was a row, ``(N,)``.
        donations: How often each image of the training cut was a donor, ``(N,)``.
        seconds: Seconds spent on it before it was interrupted.
    """

    steps: int
    rows: int
    loss: Tensor
    correct: Tensor
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
    def empty(cls, num_classes: int, images: int, device: torch.device | str = "cpu") -> "Totals":
        """Return the totals of an epoch that has not begun, on ``device``."""

        def zeros(*shape: int, kind: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=device)

        real = torch.float64
        return cls(
            steps=0, rows=0, loss=zeros(kind=real), correct=zeros(), seen=zeros(num_classes),
            mass=zeros(num_classes, kind=real), augmented=zeros(num_classes), receivers=zeros(num_classes),
            givers=zeros(num_classes), synthetic=zeros(num_classes, kind=real), visits=zeros(images),
            donations=zeros(images),
        )  # fmt: skip

    def to(self, device: torch.device | str) -> "Totals":
        """Return the same totals with their tensors on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)})

    def count(self, batch: Batch, labels: Tensor, mixed: MixedLabels, target: MixedLabels) -> None:
        """Count one step: its batch, its labels on the device, and those after mixing and feature augmentation."""
        num_classes, device = len(self.seen), self.seen.device
        self.rows += len(labels)
        self.seen.index_add_(0, labels, torch.ones_like(labels))
        self.augmented.index_add_(0, labels, batch.changed.to(labels))
        pairs = mixed.is_mixed().to(labels)
        self.receivers.index_add_(0, mixed.ids[:, 0], pairs)
        for given in mixed.ids.unbind(1)[1:]:
            self.givers.index_add_(0, given, pairs)
        mass = target.mass(num_classes)
        self.mass += mass
        self.synthetic += mass - mixed.mass(num_classes)
        rows = torch.from_numpy(batch.indices).to(device, non_blocking=True)
        self.visits.index_add_(0, rows, torch.ones_like(rows))
        if batch.donors is not None:
            used = torch.from_numpy(batch.donors.indices).to(device, non_blocking=True)
            self.donations.index_add_(0, used, pairs)


class Contract:
    """Refuses, at the first step that shows it, what a component of the user's must not return, and names it.

    Shapes and types are looked at in every step. Values too on the CPU; elsewhere only in the first step of an epoch,
    because reading them waits for the device.

    Args:
        stage: The components.
        num_classes: C.
        device: Where the images are.
    """

    def __init__(self, stage: Stage, num_classes: int, device: torch.device) -> None:
        self.stage, self.num_classes = stage, num_classes
        self._always, self._first = device.type == "cpu", True

    def mixed(self, batch: Batch, images: Any, target: Any, rows: int | None = None) -> None:
        """Look at what the mix returned: as many ``rows`` as it made, by default the batch's.

        Raises:
            DivaugError: It breaks the contract.
        """
        name = f"the mix {type(self.stage.mix).__name__}"
        shape = (len(batch.images) if rows is None else rows, *batch.images.shape[1:])
        if not torch.is_tensor(images) or images.dtype != batch.images.dtype or images.shape != shape:
            raise broken(name, f"returned images of {_what(images)} for {_what(batch.images)}")
        self._finite(name, images)
        self._labels(name, target, len(images))

    def embedded(self, z: Any, target: Any, before: Tensor) -> None:
        """Look at what the feature component returned.

        Raises:
            DivaugError: It breaks the contract.
        """
        name = f"the feature component {type(self.stage.feature).__name__}"
        if not torch.is_tensor(z) or z.ndim != 2 or z.shape[1] != before.shape[1] or len(z) < len(before):
            raise broken(name, f"returned embeddings of {_what(z)} for {_what(before)}")
        self._finite("the network", before)
        self._finite(name, z)
        self._labels(name, target, len(z))

    def classified(self, logits: Any, z: Tensor) -> None:
        """Look at what the head returned; the first step ends here.

        Raises:
            DivaugError: It breaks the contract.
        """
        if not torch.is_tensor(logits) or logits.shape != (len(z), self.num_classes):
            raise broken(
                "the head", f"returned logits of {_what(logits)} for {len(z)} rows, {self.num_classes} classes"
            )
        self._finite("the head", logits)
        self._first = False

    def _finite(self, name: str, values: Tensor) -> None:
        if self._first and not torch.isfinite(values).all():  # later the learning rate may be to blame
            raise broken(name, "returned values that are not finite in the first step")

    def _labels(self, name: str, target: Any, rows: int) -> None:
        whole = isinstance(target, MixedLabels) and target.ids.ndim == 2 and target.ids.shape == target.weights.shape
        if not whole or len(target.ids) != rows:
            what = f"{_what(target.ids)}, {_what(target.weights)}" if isinstance(target, MixedLabels) else _what(target)
            raise broken(name, f"returned labels of {what} for {rows} rows")
        if self._always or self._first:
            sums = target.weights.sum(1)
            if not ((target.weights >= 0).all() and ((sums - 1).abs() <= 1e-4).all()):
                worst = target.weights[(sums - 1).abs().argmax() if (target.weights >= 0).all() else
                                       target.weights.min(1).values.argmin()].tolist()  # fmt: skip
                raise broken(name, f"returned the label weights {worst}: they must be >= 0 and sum to 1 in every row")
            if ((target.ids < 0) | (target.ids >= self.num_classes)).any():
                raise broken(name, f"returned labels from {target.ids.min()} to {target.ids.max()}")


def _what(value: Any) -> str:
    """Return a value's type, for tensors and arrays with their shape."""
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__


class GradientCheck:
    """Stops training at the first gradient that is not finite.

    Args:
        device: Where the network is. On the CPU every step is checked at once; elsewhere the first bad step is kept on
            the device and reported by ``settle``, so that no step waits for it.
        at_once: Overrides that.
    """

    def __init__(self, device: torch.device, *, at_once: bool | None = None) -> None:
        self.at_once = device.type == "cpu" if at_once is None else at_once
        self._first = torch.full((), -1, dtype=torch.int64, device=device)
        self._found = torch.zeros(2, dtype=torch.float64, device=device)  # norm and loss of the first bad step
        self._steps: list[tuple[int, int, Tensor, float]] = []

    def look(self, model: nn.Module, loss: Tensor, epoch: int, step: int, labels: Tensor, lr: float) -> None:
        """Look at the gradients of a step.

        Raises:
            DivergedError: Steps are checked at once, and this one's gradient is not finite.
        """
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        if self.at_once:
            if not torch.isfinite(norm + loss):
                raise _not_finite(norm.item(), loss.item(), epoch, step, labels, lr)
            return
        here = torch.stack([norm.detach(), loss.detach()]).double()
        first = (self._first < 0) & ~torch.isfinite(norm + loss.detach())
        self._found = torch.where(first, here, self._found)
        self._first = torch.where(first, len(self._steps), self._first)
        self._steps.append((epoch, step, labels, lr))

    def settle(self) -> None:
        """Report a bad step among those since the last call.

        Raises:
            DivergedError: There was one; the message has the step, the labels and the learning rate.
        """
        first, steps = int(self._first), self._steps
        self._steps = []
        if first >= 0:
            norm, loss = self._found.tolist()
            raise _not_finite(norm, loss, *steps[first])


def _not_finite(norm: float, loss: float, epoch: int, step: int, labels: Tensor, lr: float) -> DivergedError:
    return DivergedError(
        f"the gradient or the loss is not finite (norm {norm}, loss {loss}) at epoch {epoch}, step {step}, "
        f"learning rate {lr:.3g}, labels {labels.tolist()}; lower --lr, or use --precision fp32"
    )


def check_labels(totals: Totals, drawn: np.ndarray, labels: Tensor) -> None:
    """Compare the labels that the loop saw with those of the indices drawn, exactly.

    Raises:
        DivaugError: They differ: some part of the pipeline dropped, repeated or relabelled rows.
    """
    expected: Any = torch.bincount(labels[torch.from_numpy(drawn)], minlength=len(totals.seen))
    seen = totals.seen.cpu()
    if not torch.equal(expected, seen):
        raise DivaugError(f"the loop saw labels {seen.tolist()}, but the sampler drew {expected.tolist()}")

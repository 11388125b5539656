"""The training step, evaluation and checkpoints: plain functions on built objects."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divaug.errors import DivaugError
from divaug.files import write_tensors
from divaug.labels import mixed_loss
from divaug.rng import stream, torch_seed


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


@dataclass(frozen=True)
class Evaluation:
    """Outputs over a part, in its order, as numpy arrays: logits, embeddings and labels."""

    logits: np.ndarray
    embeddings: np.ndarray
    labels: np.ndarray


def train_epoch(
    model: Any,
    batches: Iterable[Any],
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    *,
    totals: Totals,
    learning_rate: Callable[[int], float],
    seed: int,
    epoch: int,
    device: torch.device,
    bf16: bool = False,
    monitor: Any = None,
    watch: Callable[[Tensor, Any], None] | None = None,
    after_step: Callable[[], bool] = lambda: False,
) -> bool:
    """Train over the batches of an epoch.

    Args:
        model: A network with ``features`` and ``head``, in training mode afterwards.
        batches: Batches from ``totals.steps`` on.
        stage: The phase's components.
        optimizer: Any torch optimiser.
        totals: Updated in place.
        learning_rate: Step within the epoch to learning rate.
        seed: The run's seed.
        epoch: Epoch from 0.
        device: Where the model is.
        bf16: Run the backbone under bfloat16 autocast; the head and the loss stay in float32.
        monitor: A latent monitor, or None.
        watch: Shown every batch's pictures and target after mixing (a common encoder's monitor), or None.
        after_step: Called after every step; True stops the epoch there.

    Returns:
        Whether the epoch was finished (False: ``after_step`` asked to stop).

    Raises:
        DivaugError: The gradient is not finite; the message has the step, the labels and the learning rate.
    """
    model.train()
    for step, batch in enumerate(batches, start=totals.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        torch.manual_seed(torch_seed(stream(seed, "layers", epoch, step)))  # layers that draw by themselves: dropout
        plan = stage.mix.sample(batch.labels, batch.size, stream(seed, "mix", epoch, step))
        labels = batch.labels.to(device, non_blocking=True)
        images, mixed = stage.mix.apply(batch.images, labels, plan, batch.donors)
        if watch is not None:
            watch(images, mixed)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            z = model.features(images)
        z = z.float()  # the head in full precision: bfloat16 logits tie, and ties go to the first, largest, class
        if monitor is not None:
            monitor.update(z.detach(), mixed, model.head)
        z, target = stage.feature(z, mixed, stream(seed, "feature", epoch, step))
        logits = model.head(z)
        loss = mixed_loss(stage.criterion, logits, target, stage.class_weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _check_gradient(model, loss, epoch, step, batch.labels, learning_rate(step))
        optimizer.step()

        totals.steps = step + 1
        totals.loss += loss.item() * len(batch.labels)
        totals.correct += int((logits[: len(mixed.ids)].argmax(1) == target.dominant()[: len(mixed.ids)]).sum())
        totals.count(batch, mixed, target)
        if after_step():
            return False
    return True


def _check_gradient(model: nn.Module, loss: Tensor, epoch: int, step: int, labels: Tensor, lr: float) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not torch.isfinite(norm):
        raise DivaugError(
            f"the gradient is not finite (norm {norm.item()}, loss {loss.item()}) at epoch {epoch}, step {step}, "
            f"learning rate {lr:.3g}, labels {labels.tolist()}; lower --lr, or use --precision fp32"
        )


def check_labels(totals: Totals, drawn: np.ndarray, labels: Tensor) -> None:
    """Compare the labels that the loop saw with those of the indices drawn, exactly.

    Raises:
        DivaugError: They differ: some part of the pipeline swallowed, repeated or relabelled rows.
    """
    expected = torch.bincount(labels[torch.from_numpy(drawn)], minlength=len(totals.seen))
    if not torch.equal(expected, totals.seen):
        raise DivaugError(f"the loop saw labels {totals.seen.tolist()}, the sampler drew {expected.tolist()}")


@torch.no_grad()
def evaluate(
    model: Any, batches: Iterator[tuple[Tensor, Tensor]], *, device: torch.device, bf16: bool = False
) -> Evaluation:
    """Run a model in evaluation mode over pictures in order and put its mode back."""
    was_training = model.training
    model.eval()
    logits, embeddings, labels = [], [], []
    for images, ids in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            z = model.features(images)
        logits.append(model.head(z.float()).cpu())
        embeddings.append(z.float().cpu())
        labels.append(ids)
    model.train(was_training)
    return Evaluation(*(torch.cat(parts).numpy() for parts in (logits, embeddings, labels)))


def predictor(
    model: Any, normalize: Callable[[Tensor], Tensor], *, bf16: bool = False, batch_size: int = 500
) -> Callable[[Tensor], Tensor]:
    """Return a function from uint8 pictures ``(M, H, W, ch)`` to the classes that a model gives them as it is now."""

    @torch.no_grad()
    def predict(pictures: Tensor) -> Tensor:
        was_training = model.training
        model.eval()
        found = []
        for images in map(normalize, pictures.split(batch_size)):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                z = model.features(images)
            found.append(model.head(z.float()).argmax(1))
        model.train(was_training)
        return torch.cat(found)

    return predict


def save(
    path: Path,
    *,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stages: Sequence[Stage],
    monitors: Sequence[Any] = (),
    totals: Totals | None = None,
) -> None:
    """Write atomically the state from which ``epoch`` goes on: at its beginning, or with ``totals`` in its middle.

    A crash leaves the old checkpoint or the new one, whole. No generator state is needed: streams are stateless.
    """
    state = {
        "epoch": epoch,
        "threads": torch.get_num_threads(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "features": [stage.feature.state_dict() for stage in stages],
        "pixels": [getattr(stage.pixel, "state_dict", dict)() for stage in stages],
        "totals": None if totals is None else vars(totals),
        "monitors": [] if totals is None else [monitor.state_dict() for monitor in monitors],
    }
    write_tensors(path, state)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything but tensors and plain values.

    Raises:
        DivaugError: The file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ... by kind of damage
        raise DivaugError(f"checkpoint {path} cannot be read ({error}); delete it to start the run anew") from error


def load(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stages: Sequence[Stage],
    monitors: Sequence[Any] = (),
) -> tuple[int, Totals | None, int]:
    """Restore what ``save`` wrote; return the epoch to go on with, its totals so far, and the threads of the writer."""
    state = read_checkpoint(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for stage, feature, pixel in zip(stages, state["features"], state["pixels"], strict=True):
        stage.feature.load_state_dict(feature)
        if pixel:
            stage.pixel.load_state_dict(pixel)
    for monitor, counted in zip(monitors, state["monitors"], strict=bool(state["monitors"])):
        monitor.load_state_dict(counted)
    totals = None if state["totals"] is None else Totals(**state["totals"])
    return state["epoch"], totals, state["threads"]

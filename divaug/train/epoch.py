"""One epoch: from draws to batches, from batches to gradients."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divaug.base.errors import DivaugError
from divaug.base.labels import mixed_loss
from divaug.base.rng import stream, torch_seed
from divaug.train.step import Stage, Totals, check_gradient


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
        check_gradient(model, loss, epoch, step, batch.labels, learning_rate(step))
        optimizer.step()

        totals.steps = step + 1
        totals.loss += loss.item() * len(batch.labels)
        totals.correct += int((logits[: len(mixed.ids)].argmax(1) == target.dominant()[: len(mixed.ids)]).sum())
        totals.count(batch, mixed, target)
        if after_step():
            return False
    return True


def check_labels(totals: Totals, drawn: np.ndarray, labels: Tensor) -> None:
    """Compare the labels that the loop saw with those of the indices drawn, exactly.

    Raises:
        DivaugError: They differ: some part of the pipeline swallowed, repeated or relabelled rows.
    """
    expected = torch.bincount(labels[torch.from_numpy(drawn)], minlength=len(totals.seen))
    if not torch.equal(expected, totals.seen):
        raise DivaugError(f"the loop saw labels {totals.seen.tolist()}, the sampler drew {expected.tolist()}")

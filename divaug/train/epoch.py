"""One epoch: from draws to batches, from batches to views, from views to gradients. This happens nowhere else.

Runs, encoder training and every replay of a run's views go through ``views``; all training goes through
``train_epoch``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.contracts import Batch, Monitor
from divaug.base.errors import DivaugError, naming
from divaug.base.labels import MixedLabels, mixed_loss
from divaug.base.rng import stream, torch_seed
from divaug.config.schema import Config
from divaug.data.loaders import Loader
from divaug.models.network import Network
from divaug.optim.schedule import learning_rate
from divaug.train.distributed import ALONE, Ranks
from divaug.train.step import Contract, GradientCheck, Stage, Totals, check_labels


@dataclass(frozen=True)
class View:
    """What one step presents to the network.

    Attributes:
        step: Step within the epoch, from 0.
        batch: The rows before mixing.
        labels: Their labels, on the device.
        images: The images after mixing, on the device.
        target: The labels after mixing.
        made_of: Position in the training cut of each row's image before mixing, on the host.
    """

    step: int
    batch: Batch
    labels: Int[Tensor, "B"]
    images: Float[Tensor, "B2 ch H W"]
    target: MixedLabels
    made_of: Int[np.ndarray, "B2"]


def draw_rows(stage: Stage, images: int, *, seed: int, epoch: int, epochs: int) -> Int[np.ndarray, "N"]:
    """Return the positions in the training cut that an epoch visits, in order.

    Raises:
        DivaugError: The sampler draws something else than positions, or more or fewer rows than there are images: every
            sampler must cost the same steps.
    """
    with naming("the sampler", stage.sampler):
        draw = stage.sampler.draw(stream(seed, "sampler", epoch), epoch / epochs)
    if not torch.is_tensor(draw) or draw.dtype != torch.int64 or draw.ndim != 1:
        what = f"{draw.dtype} {tuple(draw.shape)}" if torch.is_tensor(draw) else type(draw).__name__
        raise DivaugError(f"{type(stage.sampler).__name__} drew {what}; positions of images must be an int64 tensor")
    drawn = draw.numpy()
    if len(drawn) and not 0 <= drawn.min() <= drawn.max() < images:
        name = type(stage.sampler).__name__
        raise DivaugError(f"{name} drew positions from {drawn.min()} to {drawn.max()}; there are {images} images")
    if len(drawn) != images:
        raise DivaugError(
            f"{type(stage.sampler).__name__} drew {len(drawn)} images instead of {images}: "
            "every sampler must cost the same steps"
        )
    return drawn


def views(
    loader: Loader, stage: Stage, drawn: np.ndarray, *, seed: int, epoch: int, first_step: int = 0
) -> Iterator[View]:
    """Yield the views of an epoch, step by step: rows drawn, augmented and mixed.

    Args:
        loader: The training images.
        stage: The phase's components.
        drawn: From ``draw_rows``.
        seed: The run's seed.
        epoch: Epoch from 0.
        first_step: Steps already done (resuming within an epoch).
    """
    batches = loader.epoch(drawn, pixel=stage.pixel, mix=stage.mix, seed=seed, epoch=epoch, first_step=first_step)
    for step, batch in enumerate(batches, start=first_step):
        labels = batch.labels.to(batch.images.device, non_blocking=True)
        with naming("the mix", stage.mix):
            plan = stage.mix.sample(batch.labels, batch.size, stream(seed, "mix", epoch, step))
            images, target = stage.mix.apply(batch.images, labels, plan, batch.donors)
            made_of = batch.indices[stage.mix.made_of(plan, len(labels))]
        yield View(step, batch, labels, images, target, made_of)


def shrunk(images: Float[Tensor, "B ch H W"], size: int | None) -> Float[Tensor, "B ch H2 W2"]:
    """Return images with ``size`` pixels on the shorter side, each the mean of what it covers; None leaves them."""
    if size is None:
        return images
    shorter = min(images.shape[-2:])
    sides = [round(side * size / shorter) for side in images.shape[-2:]]
    return torch.nn.functional.interpolate(images, sides, mode="bilinear", antialias=True)


def train_epoch(
    model: Network,
    loader: Loader,
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    *,
    totals: Totals,
    learning_rate: Callable[[int], float],
    seed: int,
    epoch: int,
    epochs: int,
    bf16: bool = False,
    size: int | None = None,
    monitor: Monitor | None = None,
    watch: Callable[[Tensor, MixedLabels], None] | None = None,
    after_step: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> bool:
    """Train through an epoch, from ``totals.steps`` on.

    Args:
        model: A network; left in training mode.
        loader: The training images.
        stage: The phase's components.
        optimizer: Any torch optimiser.
        totals: Counts, updated in place, on the device of the images.
        learning_rate: Maps a step within the epoch to its learning rate.
        seed: The run's seed.
        epoch: Epoch from 0.
        epochs: Epochs of the whole training.
        bf16: Run the backbone under bfloat16 autocast; head and loss stay in float32.
        size: Pixels of the shorter side that the network sees images at, fewer than theirs; None leaves them.
        monitor: A latent monitor, or None.
        watch: Called with every batch's images and target after mixing (a common encoder's monitor), or None.
        after_step: Called after every step; if it returns True, the epoch stops there.
        ranks: The processes that share every batch.

    Returns:
        Whether all steps of the epoch are done (False: ``after_step`` stopped it).

    Raises:
        DivaugError: The gradient is not finite, a component breaks its contract, or the labels seen are not those of
            the rows drawn.
    """
    model.train()
    drawn = draw_rows(stage, len(loader.labels), seed=seed, epoch=epoch, epochs=epochs)
    steps, check = loader.steps(len(drawn)), GradientCheck(loader.device)
    contract = Contract(stage, len(totals.seen), loader.device)
    for view in views(loader, stage, drawn, seed=seed, epoch=epoch, first_step=totals.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(view.step)
        # For layers that draw by themselves, such as dropout.
        torch.manual_seed(torch_seed(stream(seed, "layers", epoch, view.step)) + ranks.rank)
        contract.mixed(view.batch, view.images, view.target, len(view.made_of))
        if watch is not None:
            watch(view.images, view.target)
        mine = ranks.rows(len(view.images))
        own = view.target.take(mine)
        autocast = torch.autocast(loader.device.type, torch.bfloat16, enabled=bf16)
        with autocast, naming("the network", model.backbone):
            z = model.features(shrunk(view.images[mine], size))
        z = z.float()  # the head in full precision: bfloat16 logits tie, and ties go to the first, largest, class
        if monitor is not None:
            monitor.update(z.detach(), own, model.head)
        with naming("the feature component", stage.feature):
            augmented, target = stage.feature(z, own, stream(seed, "feature", epoch, view.step))
        contract.embedded(augmented, target, z)
        with naming("the head", model.head):
            logits = model.head(augmented)
        contract.classified(logits, augmented)
        with naming("the loss", stage.criterion):
            loss = mixed_loss(stage.criterion, logits, target, stage.class_weights, whole=ranks.total)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        ranks.sum_gradients(model)
        loss = ranks.total(loss)
        check.look(model, loss, epoch, view.step, view.batch.labels, learning_rate(view.step))
        optimizer.step()

        rows = len(own.ids)
        totals.steps = view.step + 1
        totals.loss += loss.detach().double() * len(view.labels)
        totals.correct += ranks.total((logits[:rows].argmax(1) == target.dominant()[:rows]).sum())
        totals.count(view.batch, view.labels, view.target, target if ranks.size == 1 else view.target)
        if after_step():
            break
    check.settle()
    if totals.steps < steps:
        return False
    check_labels(totals, drawn, loader.labels)
    return True


def rate_of(config: Config, steps: int, epoch: int) -> Callable[[int], float]:
    """Return the learning rate of each step of an epoch that has ``steps``."""

    def rate(step: int) -> float:
        return learning_rate(
            config.schedule, step=epoch * steps + step, steps_per_epoch=steps, epochs=config.epochs, lr=config.lr,
            warmup_frac=config.warmup_frac, milestones=config.milestones, drop=config.drop,
        )  # fmt: skip

    return rate

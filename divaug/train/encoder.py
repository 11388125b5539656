"""Training a common encoder without labels: which way up is the picture?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divaug.base.errors import ConfigError, Interrupted
from divaug.base.files import make_folder
from divaug.base.labels import MixedLabels
from divaug.base.progress import Progress
from divaug.base.rng import stream
from divaug.base.signals import StopRequest
from divaug.config.registry import FEATURE, LOSSES, PIXEL
from divaug.config.schema import Component, Config, protocol_fingerprint
from divaug.data.halves import picture_digests
from divaug.data.images import Part
from divaug.data.load import Data
from divaug.data.loaders import Loader
from divaug.models.encoder import SMALLEST, Encoder
from divaug.models.network import build_network
from divaug.optim.sgd import build_optimizer, learning_rate
from divaug.train import checkpoint as checkpoints
from divaug.train.build import find_device
from divaug.train.epoch import train_epoch
from divaug.train.step import Stage, Totals

TURNS = 4


class Rotations:
    """Every picture four times, turned by 0, 90, 180 and 270 degrees; the label is the turn.

    Reference:
        Gidaris, Singh and Komodakis, Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018,
        arXiv:1803.07728.

    Differs from the paper: the network and its schedule are the run's own.
    """

    def sample(self, labels: Tensor, size: tuple[int, int], rng: np.random.Generator) -> None:
        """Draw nothing: all four turns are made."""

    def apply(self, images: Tensor, labels: Tensor, plan: None, donors: Any = None) -> tuple[Tensor, MixedLabels]:
        """Return ``(4 B, ...)`` pictures and their turns."""
        turned = torch.cat([torch.rot90(images, turn, (2, 3)) for turn in range(TURNS)])
        turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
        return turned, MixedLabels.hard(turns)


def train_encoder(config: Config, data: Data, folder: Path) -> Path:
    """Train an encoder on a run's training pictures, their labels unseen; go on where it stopped.

    Args:
        config: Model, optimisation and data; four turned pictures count as one row of the batch size.
        data: The data; pictures must be square.
        folder: Where the encoder is written.

    Returns:
        The encoder's file, named after data set, half and its content.

    Raises:
        ConfigError: Pictures that are not square, or fewer than 256 dimensions.
        Interrupted: A signal came; a checkpoint was written.
    """
    height, width, channels = data.train.images.shape[1:]
    if height != width:
        raise ConfigError(f"pictures of {height}x{width} cannot be turned by 90 degrees; give --image-size")
    component = _wide_enough(config.model)
    device = find_device(config.device)
    network: Any = build_network(
        component.name, TURNS, channels=channels, size=(height, width), seed=config.seed, **component.options
    )
    if network.backbone.feature_dim < SMALLEST:
        raise ConfigError(
            f"a common encoder needs D >= {SMALLEST}, {component.name} has {network.backbone.feature_dim}"
        )
    network.to(device)

    def loader(part: Part) -> Loader:
        blind = replace(part, labels=np.zeros(len(part.labels), dtype=np.int64))
        return Loader(
            blind, mean=data.dataset.mean, std=data.dataset.std, batch_size=max(2, config.batch_size // TURNS),
            device=device, streaming=not isinstance(part.images, np.ndarray), workers=config.workers,
        )  # fmt: skip

    pictures = loader(data.train)
    if hasattr(network.backbone, "initialize"):
        network.backbone.initialize(pictures.evenly(5000))
    optimizer = build_optimizer(
        network, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, weight_decay=config.weight_decay,
        decay_norms=config.decay_norms,
    )  # fmt: skip
    facts = {"num_classes": TURNS, "class_counts": torch.ones(TURNS, dtype=torch.int64)}
    stage = Stage(
        start=0, sampler=None, pixel=PIXEL.build(data.dataset.pixel, facts=facts), mix=Rotations(),
        feature=FEATURE.build("none", facts=facts), criterion=LOSSES.build("ce", facts=facts), class_weights=None,
    )  # fmt: skip
    stem = make_folder(folder) / f"{config.dataset}-{config.data_part}"
    checkpoint = stem.with_name(f".{stem.name}-{protocol_fingerprint(config)}-{config.seed}.part")
    accuracy = _fit(config, network, optimizer, stage, pictures, checkpoint, device)
    held_out = _accuracy(network, loader(data.test), device)
    manifest = {
        "task": "rotation", "model": component.table(), "image_shape": [height, width, channels],
        "mean": list(data.dataset.mean), "std": list(data.dataset.std), "dataset": config.dataset,
        "data_part": config.data_part, "pictures": len(data.train.labels), "epochs": config.epochs,
        "seed": config.seed, "train_accuracy": accuracy, "test_accuracy": held_out,
    }  # fmt: skip
    encoder = Encoder(network.backbone.cpu().eval(), manifest, np.unique(picture_digests(data.train)))
    path = encoder.save(stem)
    checkpoint.unlink(missing_ok=True)
    return path


def _wide_enough(model: Component) -> Component:
    """Raise the last width of the compact network to 256 where a preset has it narrower for small pictures."""
    widths = model.options.get("widths")
    if model.name == "whitened_cnn" and widths is not None and widths[-1] < SMALLEST:
        return Component(model.name, {**model.options, "widths": [*widths[:-1], SMALLEST]})
    return model


def _fit(
    config: Config, network: nn.Module, optimizer: Any, stage: Stage, pictures: Loader, checkpoint: Path, device: Any
) -> float:
    progress = Progress(config.progress)
    first, totals = 0, None
    if checkpoint.exists():
        first, totals, _ = checkpoints.load(checkpoint, model=network, optimizer=optimizer, stages=[stage])
        progress.say(f"going on at epoch {first + 1}")
    size = len(pictures.labels)
    steps, accuracy = pictures.steps(size), float("nan")
    with StopRequest() as stop:
        for epoch in range(first, config.epochs):
            totals = totals or Totals.empty(TURNS, size)
            drawn = stream(config.seed, "sampler", epoch).permutation(size)
            batches = pictures.epoch(
                drawn, pixel=stage.pixel, mix=stage.mix, seed=config.seed, epoch=epoch, first_step=totals.steps
            )

            def rate(step: int, epoch: int = epoch) -> float:
                return learning_rate(
                    config.schedule, step=epoch * steps + step, steps_per_epoch=steps, epochs=config.epochs,
                    lr=config.lr, warmup_frac=config.warmup_frac, milestones=config.milestones, drop=config.drop,
                )  # fmt: skip

            finished = train_epoch(
                network, batches, stage, optimizer, totals=totals, learning_rate=rate, seed=config.seed, epoch=epoch,
                device=device, bf16=config.precision == "bf16", after_step=stop,
            )  # fmt: skip
            if not finished and totals.steps < steps:
                state = {"model": network, "optimizer": optimizer, "stages": [stage]}
                checkpoints.save(checkpoint, epoch=epoch, totals=totals, **state)
                raise Interrupted(stop.signal_number or 2, f"stopped in epoch {epoch + 1}; the same command goes on")
            accuracy = totals.correct / (TURNS * totals.rows)
            loss = totals.loss / totals.rows
            progress.say(f"epoch {epoch + 1}/{config.epochs}  loss {loss:.3f}  turns told {100 * accuracy:.1f} %")
            totals = None
            checkpoints.save(checkpoint, epoch=epoch + 1, model=network, optimizer=optimizer, stages=[stage])
            if stop() and epoch + 1 < config.epochs:
                raise Interrupted(stop.signal_number or 2, f"stopped after epoch {epoch + 1}; the same command goes on")
    return accuracy


@torch.no_grad()
def _accuracy(network: nn.Module, pictures: Loader, device: torch.device) -> float:
    network.eval()
    right = rows = 0
    for images, labels in pictures.in_order():
        turned, target = Rotations().apply(images.to(device), labels, None)
        right += int((network(turned).argmax(1) == target.ids[:, 0]).sum())
        rows += len(turned)
    return right / rows

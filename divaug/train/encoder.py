"""Training a common encoder without labels: which way up is the image?"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from divaug.base.contracts import Donors
from divaug.base.errors import ConfigError, Interrupted
from divaug.base.files import make_folder
from divaug.base.labels import MixedLabels
from divaug.base.progress import Progress
from divaug.base.signals import StopRequest
from divaug.config.registry import FEATURE, LOSSES, PIXEL, SAMPLERS
from divaug.config.schema import Component, Config, default_of, is_pretrained
from divaug.config.tables import protocol_fingerprint
from divaug.data.halves import image_digests
from divaug.data.images import Part
from divaug.data.load import Data
from divaug.data.loaders import Loader
from divaug.models.encoder import SMALLEST, Encoder
from divaug.models.network import Network, build_network
from divaug.train import checkpoint
from divaug.train.build import build_optimizer, find_device, initial_network
from divaug.train.epoch import rate_of, train_epoch
from divaug.train.evaluate import evaluating
from divaug.train.step import Stage, Totals

TURNS = 4
FIXED = ("method", "sampler", "pixel", "mix", "feature", "loss", "class_weights", "head", "phases", "early_size")


class Rotations:
    """Every image four times, rotated by 0, 90, 180 and 270 degrees; the label is the rotation.

    Reference:
        Gidaris, Singh and Komodakis, Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018,
        arXiv:1803.07728.

    Differs from the paper: the network and its schedule are the run's own.
    """

    prob, per_row = 1.0, False

    def sample(self, labels: Tensor, size: tuple[int, int], rng: np.random.Generator) -> None:
        """Draw nothing: all four rotations are made."""

    def apply(
        self, images: Tensor, labels: Tensor, plan: None, donors: Donors | None = None
    ) -> tuple[Tensor, MixedLabels]:
        """Return ``(4 B, ...)`` images and their rotations."""
        turned = torch.cat([torch.rot90(images, turn, (2, 3)) for turn in range(TURNS)])
        turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
        return turned, MixedLabels.hard(turns)

    def donors(self, labels: Tensor, rng: np.random.Generator) -> None:
        """Ask for none."""

    def made_of(self, plan: None, rows: int) -> Int[np.ndarray, "B"]:
        """Return the row that each rotated one comes from."""
        return np.tile(np.arange(rows), TURNS)


def train_encoder(config: Config, data: Data, folder: Path) -> Path:
    """Train an encoder on a run's training images without their labels; continue where it stopped.

    Args:
        config: Model, optimisation and data; four rotated images count as one row of the batch.
        data: The data; images must be square.
        folder: Where the encoder is written.

    Returns:
        The encoder's file, named after data set, half and its content.

    Raises:
        ConfigError: The images are not square, or there are fewer than 256 dimensions.
        Interrupted: A signal came; a checkpoint was written.
    """
    height, width, channels = data.train.images.shape[1:]
    if height != width:
        raise ConfigError(f"images of {height}x{width} cannot be rotated by 90 degrees; give --image-size")
    component = _wide_enough(config.model)
    if is_pretrained(config) or config.train != "full":
        raise ConfigError("a common encoder is trained from scratch: weights and train have no effect; drop them")
    if idle := [key for key in FIXED if getattr(config, key) != default_of(key)]:
        raise ConfigError(
            f"{idle[0].replace('_', '-')} has no effect: a common encoder learns to predict rotations, with the "
            "data set's own augmentation"
        )
    device = find_device(config.device)
    network = build_network(
        component.name, TURNS, channels=channels, size=(height, width), seed=config.seed, **component.options
    )
    if network.backbone.feature_dim < SMALLEST:
        raise ConfigError(
            f"a common encoder needs D >= {SMALLEST}, but {component.name} has {network.backbone.feature_dim}"
        )

    def loader(part: Part) -> Loader:
        blind = replace(part, labels=np.zeros(len(part.labels), dtype=np.int64))
        return Loader(
            blind, mean=data.dataset.mean, std=data.dataset.std, batch_size=max(2, config.batch_size // TURNS),
            device=device, streaming=not isinstance(part.images, np.ndarray), workers=config.workers,
        )  # fmt: skip

    pictures = loader(data.train)
    initial_network(network, pictures, data.own_images)
    facts = {
        "num_classes": TURNS, "labels": pictures.labels, "class_counts": torch.tensor([len(pictures.labels), 0, 0, 0]),
    }  # fmt: skip
    stage = Stage(
        start=0,
        sampler=SAMPLERS.build("uniform", facts=facts),
        pixel=PIXEL.build(data.dataset.pixel, facts=facts),
        mix=Rotations(),
        feature=FEATURE.build("none", facts=facts),
        criterion=LOSSES.build("ce", facts=facts),
        class_weights=None,
    )
    run = {"protocol": protocol_fingerprint(config), "seed": config.seed, "images": data.manifest["train_sha256"][:8]}
    state = checkpoint.State(network, build_optimizer(config, network), [stage], run=run)
    stem = make_folder(folder) / f"{config.dataset}-{config.data_part}"
    part = stem.with_name(f".{stem.name}-{protocol_fingerprint(config)}-{config.seed}.part")
    with closing(pictures):
        accuracy = _fit(config, state, pictures, part)
    held_out = _accuracy(network, loader(data.test))
    manifest = {
        "task": "rotation", "model": component.table(), "image_shape": [height, width, channels],
        "mean": list(data.dataset.mean), "std": list(data.dataset.std), "dataset": config.dataset,
        "data_part": config.data_part, "pictures": len(data.train.labels), "epochs": config.epochs,
        "seed": config.seed, "train_accuracy": accuracy, "test_accuracy": held_out,
    }  # fmt: skip
    backbone: Any = network.cpu().eval().backbone
    encoder = Encoder(backbone, manifest, np.unique(image_digests(data.train)))
    path = encoder.save(stem)
    part.unlink(missing_ok=True)
    return path


def _wide_enough(model: Component) -> Component:
    """Raise the last width of the compact network to 256 if a preset makes it narrower for small images."""
    widths = model.options.get("widths")
    if model.name == "whitened_cnn" and widths is not None and widths[-1] < SMALLEST:
        return Component(model.name, {**model.options, "widths": [*widths[:-1], SMALLEST]})
    return model


def _fit(config: Config, state: checkpoint.State, pictures: Loader, part: Path) -> float:
    """Train all epochs, continuing from ``part`` if there is one; return the last epoch's training accuracy."""
    progress, (stage,) = Progress(config.progress), state.stages
    first, totals = 0, None
    if part.exists():
        first, totals, _ = checkpoint.load(part, state)
        progress.say(f"resuming at epoch {first + 1}")
    size = len(pictures.labels)
    steps, accuracy = pictures.steps(size), float("nan")
    with StopRequest() as stop:
        for epoch in range(first, config.epochs):
            totals = totals or Totals.empty(TURNS, size, pictures.device)
            finished = train_epoch(
                state.model, pictures, stage, state.optimizer, totals=totals,
                learning_rate=rate_of(config, steps, epoch), seed=config.seed, epoch=epoch, epochs=config.epochs,
                bf16=config.precision == "bf16", after_step=stop,
            )  # fmt: skip
            if not finished:
                checkpoint.save(part, state, epoch=epoch, totals=totals)
                raise Interrupted(stop.signal_number or 2, f"stopped in epoch {epoch + 1}; the same command resumes it")
            accuracy = totals.correct.item() / (TURNS * totals.rows)
            loss = totals.loss.item() / totals.rows
            progress.say(
                f"epoch {epoch + 1}/{config.epochs}  loss {loss:.3f}  rotations predicted {100 * accuracy:.1f} %"
            )
            totals = None
            checkpoint.save(part, state, epoch=epoch + 1)
            if stop() and epoch + 1 < config.epochs:
                raise Interrupted(
                    stop.signal_number or 2, f"stopped after epoch {epoch + 1}; the same command resumes it"
                )
    return accuracy


def _accuracy(network: Network, pictures: Loader) -> float:
    """Return the share of rotations of unaugmented images that the network predicts correctly."""
    right = rows = 0
    with torch.no_grad(), evaluating(network):
        for images, labels in pictures.in_order():
            turned, target = Rotations().apply(images, labels.to(images.device), None)
            right += int((network(turned).argmax(1) == target.ids[:, 0]).sum())
            rows += len(turned)
    return right / rows

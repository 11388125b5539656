"""Embeddings of a run's pictures: by its own network, an untrained one or a common encoder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from divaug.base.rng import stream
from divaug.config.schema import Config, needs_encoder
from divaug.data.images import Part
from divaug.data.load import Data
from divaug.data.loaders import Loader
from divaug.latent.embeddings import Embeddings
from divaug.latent.extraction import extract
from divaug.models.encoder import Encoder
from divaug.train.build import build, build_model, find_device, stage_at

BATCH = 500


def loader_of(data: Data, part: Part, device: torch.device) -> Loader:
    """Return a loader of a part's pictures as the run's network wants them."""
    fits = isinstance(part.images, np.ndarray)
    return Loader(
        part, mean=data.dataset.mean, std=data.dataset.std, batch_size=BATCH, device=device, streaming=not fits
    )  # fmt: skip


def embed(model: nn.Module, data: Data, split: str, *, device: str = "cpu", images: Any = None) -> Embeddings:
    """Return the embeddings of a part of a run's data, unaugmented, in index order.

    Args:
        model: Its network.
        data: The run's data.
        split: "train", "val" or "test".
        device: Where to compute.
        images: Altered pictures instead of the part's own, uint8 ``(N, H, W, ch)``.
    """
    place = find_device(device)
    part = getattr(data, split)
    if images is not None:
        part = replace(part, images=images)
    return extract(
        model.to(place),
        loader_of(data, part, place).in_order(),
        class_names=data.dataset.class_names,
        split=split,
        class_counts=data.cut.group_counts.tolist(),
        device=place,
    )


def untrained(config: Config, data: Data) -> nn.Module:
    """Return a run's network as it was before training, its normalisation layers fitted to the training pictures.

    Without that their running mean 0 and variance 1 would make deep untrained features all alike.
    """
    model: Any = build_model(config, data.manifest)
    loader = loader_of(data, data.train, torch.device("cpu"))
    if hasattr(model.backbone, "initialize"):
        model.backbone.initialize(loader.evenly(5000))
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    model.train()
    with torch.no_grad():
        for images, _ in loader.in_order():
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def encode(encoder: Encoder, data: Data, split: str) -> Embeddings:
    """Return a part's clean pictures in a common encoder's space; there is no head there."""
    part = getattr(data, split)
    features = encoder.features(loader_of(data, part, torch.device("cpu")).in_order())
    return _space(features, part.labels, data, split)


def encode_views(
    encoder: Encoder,
    config: Config,
    data: Data,
    epochs: Iterable[int],
    levels: Mapping[int, Sequence[int]] | None = None,
) -> Embeddings:
    """Return in a common encoder's space the views that a run's epochs presented: exactly those, their draws replayed.

    A mixed view counts to its largest label, and as a view of the picture that its row had first.

    Args:
        encoder: The common encoder.
        config: The run's configuration.
        data: Its data.
        epochs: Epochs from 0.
        levels: Where the run learned strengths of classes: those of each epoch (``aug/level`` of its metrics).
    """
    own = config.encoder if needs_encoder(config) else None  # only where the run itself looked at that space
    built = build(replace(config, encoder=own, device="cpu"), data)
    features, labels, images = [], [], []
    for epoch in epochs:
        stage = stage_at(built.stages, epoch)
        if hasattr(stage.pixel, "update"):
            stage.pixel.levels = np.array((levels or {})[epoch])
        drawn = stage.sampler.draw(stream(config.seed, "sampler", epoch), epoch / config.epochs).numpy()
        batches = built.train.epoch(
            drawn, pixel=stage.pixel, mix=stage.mix, seed=config.seed, epoch=epoch, first_step=0
        )
        for step, batch in enumerate(batches):
            plan = stage.mix.sample(batch.labels, batch.size, stream(config.seed, "mix", epoch, step))
            views, target = stage.mix.apply(batch.images, batch.labels, plan, batch.donors)
            features.append(encoder(views).numpy())
            labels.append(target.dominant().numpy())
            images.append(batch.indices[getattr(plan, "rows", slice(None))])  # a mix may draw rows of the batch anew
    return _space(np.concatenate(features), np.concatenate(labels), data, "views", np.concatenate(images))


def _space(features: np.ndarray, labels: np.ndarray, data: Data, split: str, images: Any = None) -> Embeddings:
    return Embeddings(
        features, labels, tuple(data.dataset.class_names), split=split, images=images,
        class_counts=tuple(data.cut.group_counts.tolist()),
    )  # fmt: skip

"""Embeddings of a run's images: by its own network, an untrained one or a common encoder."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from divaug.config.schema import Config, is_pretrained, needs_encoder
from divaug.data.images import Part
from divaug.data.load import Data
from divaug.data.loaders import Loader
from divaug.latent.embeddings import Embeddings
from divaug.latent.extraction import extract
from divaug.models.encoder import Encoder
from divaug.models.network import Network
from divaug.train.build import build, build_model, find_device, initial_network, stage_at
from divaug.train.epoch import draw_rows, views

BATCH = 500


def loader_of(data: Data, part: Part, device: torch.device) -> Loader:
    """Return a loader of a part's images as the run's network expects them."""
    fits = isinstance(part.images, np.ndarray)
    return Loader(
        part, mean=data.dataset.mean, std=data.dataset.std, batch_size=BATCH, device=device, streaming=not fits
    )  # fmt: skip


def _part(data: Data, split: str) -> Part:
    part = {"train": data.train, "val": data.val, "test": data.test}[split]
    if part is None:
        raise ValueError(f"the data have no part {split!r}")
    return part


def embed(model: nn.Module, data: Data, split: str, *, images: np.ndarray | None = None) -> Embeddings:
    """Return the embeddings of a part of a run's data, unaugmented, in index order, computed on the network's device.

    Args:
        model: The run's network.
        data: The run's data.
        split: "train", "val" or "test".
        images: Altered images to use instead of the part's own, uint8 ``(N, H, W, ch)``.
    """
    part, device = _part(data, split), next(model.parameters()).device
    if images is not None:
        part = replace(part, images=images)
    return extract(
        model,
        loader_of(data, part, device).in_order(),
        class_names=data.dataset.class_names,
        split=split,
        class_counts=data.cut.group_counts.tolist(),
        device=device,
    )


def untrained(config: Config, data: Data) -> Network:
    """Return a run's network as it was before training, its normalisation layers fitted to the training images.

    Without that, running mean 0 and variance 1 would make all deep untrained features alike.
    """
    loader = loader_of(data, data.train, find_device(config.device))
    model = initial_network(build_model(config, data.manifest), loader, data.own_images, config.weights)
    if is_pretrained(config):  # its layers have statistics
        return model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # None: a plain mean over batches
    model.train()
    with torch.no_grad():
        for images, _ in loader.in_order():
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def encode(encoder: Encoder, data: Data, split: str) -> Embeddings:
    """Return a part's clean images in a common encoder's space, computed on its device; there is no head."""
    part = _part(data, split)
    features = encoder.features(loader_of(data, part, encoder.device).in_order())
    return _space(features, part.labels, data, split)


def encode_views(
    encoder: Encoder,
    config: Config,
    data: Data,
    epochs: Iterable[int],
    levels: Mapping[int, Sequence[int]] | None = None,
) -> Embeddings:
    """Return, in a common encoder's space, exactly the views that a run's epochs presented, by replaying their draws.

    Views are of full size, also those of epochs at ``early_size``.

    A mixed view counts for its largest label, and as a view of the image that its row had before mixing.

    Args:
        encoder: The common encoder.
        config: The run's configuration.
        data: Its data.
        epochs: Epochs from 0.
        levels: If the run learned strengths of classes: those of each epoch (``aug/level`` in its metrics).
    """
    own = config.encoder if needs_encoder(config) else None  # only if the run itself used that space
    features, labels, images = [], [], []
    with closing(build(replace(config, encoder=own, device=str(encoder.device)), data)) as built:
        for epoch in epochs:
            stage = stage_at(built.stages, epoch)
            if stage.pixel.learns:
                stage.pixel.levels = np.array((levels or {})[epoch])
            drawn = draw_rows(stage, len(data.train.labels), seed=config.seed, epoch=epoch, epochs=config.epochs)
            for view in views(built.train, stage, drawn, seed=config.seed, epoch=epoch):
                features.append(encoder(view.images).cpu().numpy())
                labels.append(view.target.dominant().cpu().numpy())
                images.append(view.made_of)
    return _space(np.concatenate(features), np.concatenate(labels), data, "views", np.concatenate(images))


def _space(
    features: np.ndarray, labels: np.ndarray, data: Data, split: str, images: np.ndarray | None = None
) -> Embeddings:
    return Embeddings(
        features, labels, tuple(data.dataset.class_names), split=split, images=images,
        class_counts=tuple(data.cut.group_counts.tolist()),
    )  # fmt: skip

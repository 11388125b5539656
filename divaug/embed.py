"""Embeddings of a run's pictures: by its trained network, by an untrained one, and of altered pictures."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from divaug.assemble import Data, build_model, find_device
from divaug.config import Config
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.latent.embeddings import Embeddings
from divaug.latent.extraction import extract

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

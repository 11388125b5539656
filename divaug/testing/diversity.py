"""How much diversity an augmentation adds to each image, in the space of a frozen encoder."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divaug.base.contracts import Donors
from divaug.data.loaders import Loader
from divaug.testing.kit import rng

PICTURES, VIEWS, K = 40, 16, 10


def distinct(features: Tensor) -> int:
    """Return how many features are among the K largest (and > 0) of any row."""
    top = features.topk(K, dim=1)
    return len(top.indices[top.values > 0].unique())


def diversity_per_view(
    family: str, component: Any, loader: Loader, labels: Tensor, encode: Callable[[Tensor], Tensor]
) -> str:
    """Compare the features that views of one image show with those that the image itself shows.

    Args:
        family: "pixel" or "mix".
        component: Component, built.
        loader: Loader of the training cut.
        labels: Class of every image of the cut.
        encode: Normalised images to FE.
    """
    rows = torch.from_numpy(rng(1).choice(len(labels), min(PICTURES, len(labels)), replace=False))
    plain = encode(loader.normalize(loader.take(rows.numpy())))
    views: list[list[Tensor]] = [[] for _ in rows]
    for number in range(VIEWS):
        draws, raw, own = rng(10 + number), loader.take(rows.numpy()), labels[rows]
        size = (raw.shape[1], raw.shape[2])
        if family == "pixel":
            seen = encode(loader.normalize(component.apply(raw, component.sample(own, size, draws))))
            for i, view in enumerate(seen):
                views[i].append(view)
            continue
        donors = None
        if (asked := component.donors(own, draws)) is not None:
            index = asked.numpy()
            donors = Donors(loader.normalize(loader.take(index)), loader.labels_of(index), index, index == rows.numpy())
        plan = component.sample(own, size, draws)
        seen = encode(component.apply(loader.normalize(raw), own, plan, donors)[0])
        # a mix that resamples reports which row of the batch each of its rows comes from
        for i, view in zip(component.made_of(plan, len(rows)).tolist(), seen, strict=True):
            views[i].append(view)
    gained = [distinct(torch.stack(of)) - distinct(plain[i : i + 1]) for i, of in enumerate(views) if of]
    shown = np.mean([len(of) for of in views if of])
    return f"{np.mean(gained):+.1f} distinct top-{K} features in {shown:.0f} views of an image, over its own {K}"

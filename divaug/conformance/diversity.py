"""How much diversity an augmentation gives each picture, in the space of a frozen encoder."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from divaug.conformance.kit import Check, rng
from divaug.contracts import augment
from divaug.data.loaders import Donors

PICTURES, VIEWS, K = 40, 16, 10
SIDE, FILTERS = 3, 256
PATCHES = 2**19  # at once: what they and the filters' answers take stays below a gigabyte


class RandomPatches:
    """A frozen encoder without training: the rectified, averaged answers to 256 whitened patches of the pictures.

    Args:
        pictures: Pictures to take patches from, float ``(N, ch, H, W)``, ch being what will be encoded.

    Reference:
        Coates, Ng and Lee, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS 2011.

    Differs from the paper: patches are not clustered; they are drawn, always the same ones.
    """

    def __init__(self, pictures: Tensor) -> None:
        several = max(1, PATCHES // (pictures.shape[2] * pictures.shape[3]))
        patches = F.unfold(pictures[:: -(-len(pictures) // several)], SIDE).permute(0, 2, 1).flatten(0, 1)
        self.mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - self.mean).T))
        self.whitening = vectors / (values.clamp_min(0) + 0.1 * values.mean()).sqrt()
        drawn = torch.from_numpy(rng(0).choice(len(patches), FILTERS, replace=len(patches) < FILTERS))
        filters = (patches[drawn] - self.mean) @ self.whitening
        self.filters = filters / filters.norm(dim=1, keepdim=True).clamp_min(1e-6)

    def __call__(self, images: Tensor) -> Tensor:
        """Return FE >= 0 of pictures, ``(B, 256)``."""
        several = max(1, PATCHES // (images.shape[2] * images.shape[3]))
        return torch.cat([self._encode(part) for part in images.split(several)])

    def _encode(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, SIDE).permute(0, 2, 1) - self.mean
        return torch.relu(patches @ self.whitening @ self.filters.T - 1.0).mean(1)


def distinct(features: Tensor) -> int:
    """Return how many features are among the K largest (and > 0) of any row."""
    top = features.topk(K, dim=1)
    return len(top.indices[top.values > 0].unique())


def diversity_per_view(
    family: str, component: Any, loader: Any, labels: Tensor, encode: Callable[[Tensor], Tensor]
) -> Check:
    """Compare the features that views of one picture show with those that the picture itself shows.

    Args:
        family: "pixel" or "mix".
        component: Component, built.
        loader: Loader of the training cut.
        labels: Class of every picture of the cut.
        encode: Normalised pictures to FE.
    """
    if family not in ("pixel", "mix"):
        return Check("diversity per view", "note", f"not measured: {family} changes no picture")
    rows = torch.from_numpy(rng(1).choice(len(labels), min(PICTURES, len(labels)), replace=False))
    plain = encode(loader.normalize(loader.take(rows.numpy())))
    views: list[list[Tensor]] = [[] for _ in rows]
    for number in range(VIEWS):
        draws, raw, own = rng(10 + number), loader.take(rows.numpy()), labels[rows]
        size = (raw.shape[1], raw.shape[2])
        if family == "pixel":
            seen = encode(loader.normalize(augment(component, raw, component.sample(own, size, draws))))
            for i, view in enumerate(seen):
                views[i].append(view)
            continue
        donors = None
        if hasattr(component, "donors"):
            index = component.donors(own, draws).numpy()
            donors = Donors(loader.normalize(loader.take(index)), loader.labels_of(index), index, index == rows.numpy())
        plan = component.sample(own, size, draws)
        seen = encode(component.apply(loader.normalize(raw), own, plan, donors)[0])
        # a mix that resamples says which row of the batch each of its rows is made of
        for i, view in zip(getattr(plan, "rows", np.arange(len(rows))).tolist(), seen, strict=True):
            views[i].append(view)
    gained = [distinct(torch.stack(of)) - distinct(plain[i : i + 1]) for i, of in enumerate(views) if of]
    shown = np.mean([len(of) for of in views if of])
    reason = f"{np.mean(gained):+.1f} distinct top-{K} features in {shown:.0f} views of a picture, over its own {K}"
    return Check("diversity per view", "pass", reason)

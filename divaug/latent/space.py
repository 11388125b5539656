"""A common space alongside a run: a frozen encoder's features of what training presents, and of clean images."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from divaug.base.labels import MixedLabels
from divaug.latent.monitor import TopKMonitor
from divaug.models.encoder import Encoder


class CommonSpace:
    """An encoder alongside a run: follows the views that training presents, and measures clean images, by top-K FE.

    There are no class weights in this space, so the sets are of the largest features, never CE.

    Args:
        encoder: The encoder.
        num_classes: C.
        ks: K of the sets.
        sizes: Sample sizes m of the rarefied numbers.
        device: Where the images are.
    """

    def __init__(
        self, encoder: Encoder, num_classes: int, *, ks: tuple[int, ...], sizes: tuple[int, ...], device: torch.device
    ) -> None:
        encoder.backbone.to(device)
        self.encoder = encoder
        self._new = lambda: TopKMonitor(num_classes, encoder.dimensions, k=ks, sizes=sizes)
        self.monitor = self._new()
        self._clean: dict[str, dict[str, np.ndarray]] = {}

    def observe(self, images: Tensor, target: MixedLabels) -> None:
        """Count a batch as training sees it, after pixel augmentation and mixing.

        Every row counts towards its largest label weight, mixed or not: the measure is of what a class was shown.
        """
        self.monitor.update(self.encoder(images), MixedLabels.hard(target.dominant()), None)

    def clean(self, name: str, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> dict[str, np.ndarray]:
        """Return the statistics of a part's clean images, which never change and are therefore computed once.

        Args:
            name: The part.
            batches: Makes its batches in order.
        """
        if name not in self._clean:
            monitor = self._new()
            for images, labels in batches():
                monitor.update(self.encoder(images), MixedLabels.hard(labels.to(images.device)), None)
            self._clean[name] = monitor.compute()
        return self._clean[name]

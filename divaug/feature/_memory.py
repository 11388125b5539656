"""A bounded memory of recent embeddings by class, for methods that need more of a rare class than one batch has."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.base.labels import MixedLabels


class FeatureMemory(nn.Module):
    """The last embeddings of every class, as buffers: C * slots * D float32.

    The rarer the class, the older they are; the network has changed since.

    Args:
        num_classes: C.
        feature_dim: D.
        slots: Embeddings kept per class, >= 2.
    """

    features: Float[Tensor, "C M D"]
    filled: Int[Tensor, "C"]
    position: Int[Tensor, "C"]

    def __init__(self, num_classes: int, feature_dim: int, slots: int) -> None:
        super().__init__()
        if slots < 2:
            raise ValueError(f"memory must be >= 2, got {slots}")
        self.slots = slots
        self.register_buffer("features", torch.zeros(num_classes, slots, feature_dim))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("position", torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def add(self, z: Float[Tensor, "B D"], target: MixedLabels) -> None:
        """Keep the embeddings of unmixed rows, replacing the oldest of their class."""
        plain = ~target.is_mixed()
        z, labels = z.detach()[plain].float(), target.dominant()[plain]
        order = torch.argsort(labels, stable=True)
        z, labels = z[order], labels[order]
        counts = torch.bincount(labels, minlength=len(self.filled))
        rank = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[labels]
        kept = rank >= (counts - self.slots)[labels]  # more rows of one class than slots: the last ones stay
        slot = (self.position[labels] + rank) % self.slots
        self.features[labels[kept], slot[kept]] = z[kept]
        self.position.copy_((self.position + counts) % self.slots)
        self.filled.copy_((self.filled + counts).clamp(max=self.slots))


class Deficit:
    """Draws the classes of synthetic rows in proportion to how far they fall short of the largest: n_max - n_c.

    Args:
        class_counts: Training images of each class.
        rate: Synthetic rows per real row, >= 0; with C * n_max / N - 1 all classes have equal label mass.
    """

    def __init__(self, class_counts: Int[Tensor, "C"], rate: float) -> None:
        if rate < 0:
            raise ValueError(f"rate must be >= 0, got {rate}")
        counts = class_counts.double().numpy()
        self.rate = rate
        self.lacking = np.where(counts > 0, counts.max() - counts, 0.0)

    def draw(self, rows: int, filled: Int[np.ndarray, "C"], rng: np.random.Generator) -> Int[np.ndarray, "R"]:
        """Return the classes of round(rate * rows) synthetic rows; none if all counts are equal.

        Classes that are not in the memory yet are left out.
        """
        weights = np.where(filled > 0, self.lacking, 0.0)
        size = int(np.floor(self.rate * rows + rng.random()))
        if not weights.any():
            size = 0
        u = rng.random(size)
        return np.searchsorted(np.cumsum(weights) / max(weights.sum(), 1e-300), u, side="right")


def append_rows(
    z: Float[Tensor, "B D"], target: MixedLabels, made: Float[Tensor, "R D"], classes: Int[Tensor, "R"]
) -> tuple[Float[Tensor, "B2 D"], MixedLabels]:
    """Append synthetic rows with hard labels to a batch."""
    width = target.ids.shape[1]
    ids = torch.cat([target.ids, classes[:, None].expand(-1, width)])
    whole = torch.zeros(len(classes), width, device=z.device)
    whole[:, 0] = 1.0
    mixed = torch.cat([target.is_mixed(), torch.zeros(len(classes), dtype=torch.bool, device=z.device)])
    return torch.cat([z, made.to(z.dtype)]), MixedLabels(ids, torch.cat([target.weights, whole]), mixed)


class Synthetic(nn.Module, ABC):
    """Base of methods that append synthetic rows of rare classes, made from a memory, to a batch.

    They train the head only: no gradient goes from them to the backbone.

    Args:
        class_counts: Training images of each class.
        feature_dim: D.
        rate: Synthetic rows per real row, >= 0.
        neighbours: Number of nearest neighbours, >= 1.
        memory: Embeddings remembered per class, >= 2.
    """

    unmixed_only = True  # mixed rows never enter the memory

    def __init__(
        self, class_counts: Int[Tensor, "C"], feature_dim: int, *, rate: float, neighbours: int, memory: int
    ) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours must be >= 1, got {neighbours}")
        self.neighbours = neighbours
        self.deficit = Deficit(class_counts, rate)
        self.memory = FeatureMemory(len(class_counts), feature_dim, memory)

    def forward(
        self, z: Float[Tensor, "B D"], target: MixedLabels, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B2 D"], MixedLabels]:
        """Remember the batch and append synthetic rows to it."""
        if not self.training:
            return z, target
        self.memory.add(z, target)
        drawn = self.deficit.draw(len(z), self.memory.filled.cpu().numpy(), rng)
        u = rng.random((3, len(drawn)), dtype=np.float32)  # below 1: a rounded 1 would point past the last one
        u = torch.from_numpy(u).to(z.device)
        made, classes = self.make(torch.from_numpy(drawn).to(z.device), u)
        return append_rows(z, target, made, classes)

    @abstractmethod
    def make(self, classes: Int[Tensor, "R"], u: Float[Tensor, "3 R"]) -> tuple[Float[Tensor, "M D"], Int[Tensor, "M"]]:
        """Return up to one embedding for each class drawn, and the classes of those; ``u`` are uniform draws."""
        ...

"""Additive counts of top-K sets by class: integers and float64 sums that add up over batches and over ranks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.latent.topk import top_k_sets


class TopKCounts:
    """Incidence, number, sums and ranges of the features of every class, in O(len(ks) * C * D) memory.

    Args:
        num_classes: C.
        feature_dim: D.
        ks: Sizes of the top-K sets, each 1 to D; the first is the one reported without its size in the name.

    Attributes:
        incidence: int64 ``(len(ks), C, D)``: images of the class whose top-K set holds the feature.
        n: int64 ``(C,)``: images counted.
        sums: float64 ``(C, D)``: sums of the contributions.
        lowest: float64 ``(C, D)``: smallest contribution of any image; infinity without images.
        highest: float64 ``(C, D)``: largest contribution; minus infinity without images.

    Example:
        >>> import torch
        >>> from divaug.latent import TopKCounts
        >>> counts = TopKCounts(num_classes=2, feature_dim=3, ks=[2])
        >>> counts.update(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 0.0]]), torch.tensor([0, 0]))
        >>> counts.incidence[0].tolist(), counts.n.tolist()
        ([[1, 1, 1], [0, 0, 0]], [2, 0])
    """

    def __init__(self, num_classes: int, feature_dim: int, ks: Sequence[int]) -> None:
        for k in ks:
            if not 1 <= k <= feature_dim:
                raise ValueError(f"top-k must lie in 1 to D = {feature_dim}, got {k}")
        if not ks or len(set(ks)) < len(ks):
            raise ValueError(f"top-k needs different sizes, at least one, got {list(ks)}")
        self.ks = tuple(ks)
        shape = (num_classes, feature_dim)
        self.incidence = torch.zeros(len(ks), *shape, dtype=torch.int64)
        self.n = torch.zeros(num_classes, dtype=torch.int64)
        self.sums = torch.zeros(shape, dtype=torch.float64)
        self.lowest = torch.full(shape, torch.inf, dtype=torch.float64)
        self.highest = torch.full(shape, -torch.inf, dtype=torch.float64)

    def update(self, contributions: Float[Tensor, "B D"], classes: Int[Tensor, "B"]) -> None:
        """Count a batch of contributions (CE or FE) to the classes of its rows."""
        if not len(classes):
            return
        if self.n.device != contributions.device:
            for name, tensor in self._tensors().items():
                setattr(self, name, tensor.to(contributions.device))
        for incidence, k in zip(self.incidence, self.ks, strict=True):
            incidence.index_add_(0, classes, top_k_sets(contributions, k).long())
        self.n.index_add_(0, classes, torch.ones_like(classes))
        values = contributions.double()
        self.sums.index_add_(0, classes, values)
        rows = classes[:, None].expand_as(values)
        self.lowest.scatter_reduce_(0, rows, values, "amin")
        self.highest.scatter_reduce_(0, rows, values, "amax")

    def merge(self, other: "TopKCounts") -> None:
        """Add the counts of another part of the images, exactly; they must have the same Ks and shape."""
        if (other.ks, other.incidence.shape) != (self.ks, self.incidence.shape):
            raise ValueError(f"cannot merge K={list(other.ks)}, {tuple(other.sums.shape)} into K={list(self.ks)}, "
                             f"{tuple(self.sums.shape)}")  # fmt: skip
        device = self.n.device
        for name in ("incidence", "n", "sums"):
            getattr(self, name).add_(getattr(other, name).to(device))
        torch.minimum(self.lowest, other.lowest.to(device), out=self.lowest)
        torch.maximum(self.highest, other.highest.to(device), out=self.highest)

    def reset(self) -> None:
        """Forget everything counted."""
        for tensor in (self.incidence, self.n, self.sums):
            tensor.zero_()
        self.lowest.fill_(torch.inf)
        self.highest.fill_(-torch.inf)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in ("incidence", "n", "sums", "lowest", "highest")}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        return {"ks": list(self.ks), **self._tensors()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore counts from a checkpoint.

        Raises:
            ValueError: They were counted for other Ks.
        """
        if tuple(state["ks"]) != self.ks:
            raise ValueError(f"the checkpoint counts K={list(state['ks'])}, this monitor K={list(self.ks)}")
        for name in self._tensors():
            setattr(self, name, state[name].clone())

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return incidence, n and mean contributions (NaN for classes without images) as numpy arrays."""
        n = self.n.cpu().numpy()
        with np.errstate(invalid="ignore"):
            return self.incidence.cpu().numpy(), n, self.sums.cpu().numpy() / n[:, None]

"""Additive counts of top-K sets by class: integers and float64 sums that add up over batches and over ranks."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.latent.topk import top_k_incidence


class TopKCounts:
    """Incidence, number and sums of the features of every class, in O(C * D) memory.

    Args:
        num_classes: C.
        feature_dim: D.
        k: Size of the top-K sets, 1 to D.

    Attributes:
        incidence: int64 ``(C, D)``: pictures of the class whose top-K set holds the feature.
        n: int64 ``(C,)``: pictures counted.
        sums: float64 ``(C, D)``: sums of the contributions.
    """

    def __init__(self, num_classes: int, feature_dim: int, k: int) -> None:
        if not 1 <= k <= feature_dim:
            raise ValueError(f"top-k must lie in 1 to D = {feature_dim}, got {k}")
        self.k = k
        self.incidence = torch.zeros(num_classes, feature_dim, dtype=torch.int64)
        self.n = torch.zeros(num_classes, dtype=torch.int64)
        self.sums = torch.zeros(num_classes, feature_dim, dtype=torch.float64)

    def update(self, contributions: Float[Tensor, "B D"], classes: Int[Tensor, "B"]) -> None:
        """Count a batch of contributions (CE or FE) to the classes of its rows."""
        if self.n.device != contributions.device:
            self.incidence, self.n, self.sums = (
                t.to(contributions.device) for t in (self.incidence, self.n, self.sums)
            )
        features, belongs = top_k_incidence(contributions, self.k)
        cells = (classes[:, None] * self.incidence.shape[1] + features).flatten()
        self.incidence.view(-1).index_add_(0, cells, belongs.flatten().long())
        self.n.index_add_(0, classes, torch.ones_like(classes))
        self.sums.index_add_(0, classes, contributions.double())

    def merge(self, other: "TopKCounts") -> None:
        """Add the counts of another part of the pictures; they must have the same K and shape."""
        if (other.k, other.incidence.shape) != (self.k, self.incidence.shape):
            raise ValueError(f"cannot merge K={other.k}, {tuple(other.incidence.shape)} into K={self.k}, "
                             f"{tuple(self.incidence.shape)}")  # fmt: skip
        for mine, theirs in zip(self._tensors(), other._tensors(), strict=True):
            mine.add_(theirs.to(mine.device))

    def reset(self) -> None:
        """Forget everything counted."""
        for tensor in self._tensors():
            tensor.zero_()

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.incidence, self.n, self.sums

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        return {"k": self.k, "incidence": self.incidence, "n": self.n, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore counts from a checkpoint."""
        self.k, self.incidence, self.n, self.sums = (state[key].clone() if key != "k" else state[key] for key in state)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return incidence, n and mean contributions (NaN for classes without pictures) as numpy arrays."""
        n = self.n.cpu().numpy()
        with np.errstate(invalid="ignore"):
            return self.incidence.cpu().numpy(), n, self.sums.cpu().numpy() / n[:, None]

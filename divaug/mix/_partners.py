"""Partner rules: which pictures of the whole training set are mixed into a batch."""

import torch
from jaxtyping import Int
from torch import Tensor

from divaug.rng import ClassDraw


def minority_partners(labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"], power: float) -> ClassDraw:
    """Return a draw of pictures with weight n_c ** -power each: 1 draws every class alike, 0 as the data are."""
    if power < 0:
        raise ValueError(f"power must be >= 0, got {power}")
    counts = class_counts.double()
    return ClassDraw(labels, torch.where(counts > 0, counts.clamp_min(1) ** (1 - power), 0.0))

"""Classifiers on top of embeddings. Their final logits include their scale."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from divaug.config.registry import HEADS


@HEADS.register("linear")
class LinearHead(nn.Linear):
    """Logits z W^T + b.

    Args:
        feature_dim: D.
        num_classes: C.

    Differs from the paper: there is none.
    """

    scale: float = 1.0

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes)
        nn.init.kaiming_normal_(self.weight)  # as in LDAM-DRW

    def factors(self, z: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "C D"]]:
        """Return (FE, weights) whose elementwise product is the classification embedding: here both unchanged."""
        return z, self.weight


@HEADS.register("cosine", tune={"scale": (10.0, 60.0, "log")})
class CosineHead(nn.Module):
    """Logits scale * cosine of z and each class's weight; no bias.

    Args:
        feature_dim: D.
        num_classes: C.
        scale: Factor of the cosines, > 0.

    Reference:
        Wang et al., NormFace, 2017, arXiv:1704.06369; Cao et al., NeurIPS 2019, arXiv:1906.07413 (scale 30).

    Differs from the paper: the weight is stored (C, D); the scale is applied here, not in the loss.
    """

    bias: None = None

    def __init__(self, feature_dim: int, num_classes: int, *, scale: float = 30.0) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale must be > 0, got {scale}")
        self.scale = scale
        # Unit rows, because the gradient of a direction shrinks as the weight's norm grows.
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, feature_dim).uniform_(-1, 1), dim=1))

    def factors(self, z: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "C D"]]:
        """Return (FE, weights) whose elementwise product is the classification embedding: both normalised."""
        return F.normalize(z.float(), dim=1), F.normalize(self.weight, dim=1)

    def forward(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return scale * cosines, in at least float32 under autocast too: bfloat16 would be off by up to 0.1."""
        with torch.autocast(z.device.type, enabled=False):
            return self.scale * F.linear(*self.factors(z))

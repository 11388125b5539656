import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from divaug.base.labels import MixedLabels
from divaug.config.registry import FEATURE


@FEATURE.register("manifold_mixup", tune={"alpha": (0.2, 4.0, "log"), "prob": (0.2, 1.0)})
class ManifoldMixup(nn.Module):
    """Blend every embedding with another of the batch, and their labels by the same share.

    Args:
        alpha: The share kept is drawn from Beta(alpha, alpha) once per step, > 0.
        prob: Share of steps that are mixed, in [0, 1].

    Reference:
        Verma et al., Manifold Mixup, ICML 2019, arXiv:1806.05236.

    Differs from the paper: always at the last layer; the paper draws the layer.
    """

    strengths = ({"alpha": 0.2}, {"alpha": 2.0}, {"alpha": 8.0})

    def __init__(self, *, alpha: float = 2.0, prob: float = 1.0) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha must be > 0, got {alpha}")
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in [0, 1], got {prob}")
        self.alpha, self.prob = alpha, prob

    def forward(
        self, z: Float[Tensor, "B D"], target: MixedLabels, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B D"], MixedLabels]:
        """Blend; a row keeps its own labels first."""
        if not self.training:
            return z, target
        mixes, kept = rng.random() < self.prob, float(rng.beta(self.alpha, self.alpha))
        partner = torch.from_numpy(rng.permutation(len(z))).to(z.device)
        if not mixes:
            return z, target
        ids = torch.cat([target.ids, target.ids[partner]], dim=1)
        weights = torch.cat([kept * target.weights, (1 - kept) * target.weights[partner]], dim=1)
        foreign = partner != torch.arange(len(z), device=z.device)
        mixed = target.is_mixed() | (foreign & (0 < kept < 1))
        return torch.lerp(z[partner], z, kept), MixedLabels(ids, weights, mixed)

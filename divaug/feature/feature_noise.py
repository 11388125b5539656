import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.base.labels import MixedLabels
from divaug.base.rng import device_generator
from divaug.config.registry import FEATURE


@FEATURE.register("feature_noise", tune={"std": (0.02, 0.5, "log")})
class FeatureNoise(nn.Module):
    """Add normal noise to embeddings, scaled by the spread of each dimension.

    Args:
        class_counts: Training images of each class.
        feature_dim: D.
        std: Standard deviation of the noise as a multiple of the dimension's own, >= 0.
        power: Rarity exponent, >= 0: the noise of class c is (n_max / n_c) ** power times as large; 0: all alike.
        momentum: Weight of the newest batch in the running variance, in (0, 1].

    Reference:
        DeVries and Taylor, Dataset Augmentation in Feature Space, ICLR workshop 2017, arXiv:1702.05538.

    Differs from the paper: online, on the embeddings of a classifier instead of an autoencoder; ``power`` is ours.
    """

    variance: Float[Tensor, "D"]
    scale: Float[Tensor, "C"]

    strengths = ({"std": 0.05}, {"std": 0.1}, {"std": 0.5})

    def __init__(
        self,
        class_counts: Int[Tensor, "C"],
        feature_dim: int,
        *,
        std: float = 0.1,
        power: float = 0.0,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("std", std), ("power", power)):
            if value < 0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must lie in (0, 1], got {momentum}")
        self.momentum = momentum
        counts = class_counts.clamp_min(1).double()
        self.register_buffer("scale", (std * (counts.max() / counts) ** power).float())
        self.register_buffer("variance", torch.full((feature_dim,), float("nan")))

    def forward(
        self, z: Float[Tensor, "B D"], target: MixedLabels, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B D"], MixedLabels]:
        """Add noise; labels stay."""
        if not self.training:
            return z, target
        generator = device_generator(rng, z.device)
        new = z.detach().float().var(0, unbiased=False)
        self.variance.copy_(torch.where(self.variance.isnan(), new, torch.lerp(self.variance, new, self.momentum)))
        noise = torch.randn(z.shape, generator=generator, device=z.device)
        return z + self.scale[target.dominant()][:, None] * self.variance.sqrt() * noise, target

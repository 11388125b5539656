import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.base.labels import MixedLabels
from divaug.base.rng import device_generator
from divaug.config.registry import FEATURE
from divaug.feature._memory import FeatureMemory

COVARIANCES = ("diagonal", "low_rank", "full")


@FEATURE.register("isda", tune={"strength": (0.1, 1.0)})
class ISDA(nn.Module):
    """Add noise with the covariance of its class to every embedding, more as training proceeds.

    z + sqrt(strength * t / T) * e with e ~ N(0, S_c), t of T steps done, and S_c the running covariance of class c.

    Memory in float32: ``diagonal`` C * D, ``low_rank`` C * rank * D, ``full`` C * D * D (D = 512, C = 100: 105 MB).

    Args:
        num_classes: C.
        feature_dim: D.
        total_steps: T.
        strength: lambda_0 of the paper, >= 0.
        covariance: diagonal; low_rank, that of the last ``rank`` embeddings of the class; or full.
        rank: Embeddings that low_rank uses, >= 2.

    Reference:
        Wang et al., Implicit Semantic Data Augmentation for Deep Networks, NeurIPS 2019, arXiv:1909.12220.

    Differs from the paper: noise is sampled, so it works with every loss; the paper minimises an upper bound of the
    expected loss. The covariance is diagonal unless asked for otherwise; the authors' code for CIFAR has the full one.
    t counts the steps that ISDA was on for, so that in the second half of training alone (``start`` 0.5) t / T rises
    from 0 to a half. Only unmixed rows enter the statistics. ``low_rank`` is ours, and so is the ridge that makes a
    singular ``full`` covariance definite.
    """

    steps: Int[Tensor, ""]
    count: Float[Tensor, "C"]
    mean: Float[Tensor, "C D"]
    spread: Tensor

    unmixed_only = True  # mixed rows never enter the statistics
    strengths = ({"strength": 0.1}, {"strength": 0.5}, {"strength": 2.0})

    def __init__(
        self,
        num_classes: int,
        feature_dim: int,
        total_steps: int,
        *,
        strength: float = 0.5,
        covariance: str = "diagonal",
        rank: int = 16,
    ) -> None:
        super().__init__()
        if strength < 0:
            raise ValueError(f"strength must be >= 0, got {strength}")
        if covariance not in COVARIANCES:
            raise ValueError(f"covariance must be one of {', '.join(COVARIANCES)}, got {covariance!r}")
        if rank < 2:
            raise ValueError(f"rank must be >= 2, got {rank}")
        if rank != 16 and covariance != "low_rank":
            raise ValueError(f"rank has no effect with covariance {covariance!r}; use it with low_rank")
        self.strength, self.kind, self.total_steps = strength, covariance, total_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        if covariance == "low_rank":
            self.memory = FeatureMemory(num_classes, feature_dim, rank)
            return
        self.register_buffer("count", torch.zeros(num_classes))
        self.register_buffer("mean", torch.zeros(num_classes, feature_dim))
        shape = (num_classes, feature_dim) + ((feature_dim,) if covariance == "full" else ())
        self.register_buffer("spread", torch.zeros(shape))

    def forward(
        self, z: Float[Tensor, "B D"], target: MixedLabels, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B D"], MixedLabels]:
        """Update the statistics with the batch and add noise to it; labels stay."""
        if not self.training:
            return z, target
        generator = device_generator(rng, z.device)
        if self.kind == "low_rank":
            self.memory.add(z, target)
        else:
            self._update(z.detach().float(), target)
        ratio = self.strength * self.steps.item() / self.total_steps
        self.steps += 1
        return z + ratio**0.5 * self._noise(target.dominant(), z.shape, generator), target

    @torch.no_grad()
    def _update(self, z: Float[Tensor, "B D"], target: MixedLabels) -> None:
        plain = ~target.is_mixed()
        z, labels = z[plain], target.dominant()[plain]
        for c in labels.unique().tolist():
            rows = z[labels == c]
            n, m = self.count[c].item(), len(rows)
            centred, shift = rows - rows.mean(0), self.mean[c] - rows.mean(0)
            if self.kind == "full":
                new, between = centred.T @ centred / m, torch.outer(shift, shift)
            else:
                new, between = centred.square().mean(0), shift.square()
            self.spread[c] = (n * self.spread[c] + m * new) / (n + m) + n * m * between / (n + m) ** 2
            self.mean[c] = (n * self.mean[c] + m * rows.mean(0)) / (n + m)
            self.count[c] = n + m

    def _noise(self, labels: Tensor, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "B D"]:
        """Draw N(0, S_c) for each row."""
        device = labels.device
        if self.kind == "low_rank":  # a random combination of M centred points has their covariance
            weights = torch.randn(shape[0], self.memory.slots, generator=generator, device=device)
            noise = torch.zeros(shape, device=device)
            for c in labels.unique().tolist():
                n = int(self.memory.filled[c])
                if n > 1:
                    points = self.memory.features[c, :n]
                    rows = labels == c
                    noise[rows] = weights[rows, :n] @ (points - points.mean(0)) / n**0.5
            return noise
        noise = torch.randn(shape, generator=generator, device=device)
        if self.kind == "diagonal":
            return self.spread[labels].sqrt() * noise
        for c in labels.unique().tolist():
            rows = labels == c
            noise[rows] = noise[rows] @ _square_root(self.spread[c]).T
        return noise


def _square_root(covariance: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    """Return L with L L^T the covariance, plus the smallest ridge of ten that makes it definite.

    The covariance of few rows is singular, and rounding can make it indefinite.
    """
    wide = covariance.double()
    identity = torch.eye(len(wide), device=wide.device, dtype=wide.dtype)
    for power in range(-8, 2):
        ridge = 10.0**power * wide.diagonal().mean() + 1e-12
        factor, failed = torch.linalg.cholesky_ex(wide + ridge * identity)
        if not failed:
            return factor.float()
    return wide.diagonal().clamp_min(0).sqrt().diag().float()  # none is large enough: use the variances alone

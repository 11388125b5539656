import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import linear_head, train_head, weights_of


class _Scales(nn.Module):
    """Logits of fixed weights, times one trained factor per class."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.factors = nn.Parameter(torch.ones(len(weight)))

    def forward(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        return self.factors * F.linear(z, self.get_buffer("weight"), self.get_buffer("bias"))


@POSTHOC.register("lws")
class LearnableWeightScaling:
    """LWS: the head as trained, times one factor per class, trained with every class drawn equally often.

    Args:
        seed: The run's seed, which fixes the order of the rows.
        epochs: Epochs of the factors, >= 1.
        lr: Their initial learning rate, > 0.

    Raises:
        ConfigError: The head is not linear.

    Reference:
        Kang et al., Decoupling Representation and Classifier, ICLR 2020, arXiv:1910.09217, sec. 4.

    Differs from the paper: as for ``crt``; the factor multiplies the bias too, as in the authors' code, which
    trains five epochs at 0.2.
    """

    def __init__(self, seed: int, *, epochs: int = 10, lr: float = 0.1) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {epochs}")
        if lr <= 0:
            raise ValueError(f"lr must be > 0, got {lr}")
        self.seed, self.epochs, self.lr = seed, epochs, lr
        self.notes: list[str] = []

    def fit(self, embeddings: Embeddings, head: Head, rng: np.random.Generator) -> Head:
        """Return the scaled head."""
        weight, bias = weights_of(head, "lws")
        scales = _Scales(torch.tensor(weight), torch.tensor(bias))
        train_head(
            scales, embeddings.features, embeddings.labels, epochs=self.epochs, lr=self.lr, seed=self.seed,
            balanced=True,
        )  # fmt: skip
        factors = scales.factors.detach().numpy()
        turned = np.flatnonzero(factors <= 0).tolist()
        self.notes = (
            [f"lws: the factors of classes number {turned} fell to 0 or below: lower --head-lr"] if turned else []
        )
        return linear_head(factors[:, None] * weight, factors * bias)

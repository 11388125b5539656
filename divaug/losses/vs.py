import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import adjusted, at_least_float32, cross_entropy_rows, positive_counts


@LOSSES.register("vs", tune={"gamma": (0.05, 0.4), "tau": (0.25, 2.0)})
class VectorScaling(nn.Module):
    """Cross-entropy of logits that are scaled by (n_c / n_max) ** gamma, plus tau * log pi_c.

    With gamma 0 it is logit adjustment, with tau 0 class-dependent temperatures (CDT); with both 0 cross-entropy.

    Args:
        class_counts: Training images of each class, >= 1.
        gamma: Exponent of the factors, >= 0.
        tau: Strength of the adjustment.

    Reference:
        Kini et al., Label-Imbalanced and Group-Sensitive Classification under Overparameterization, NeurIPS 2021,
        arXiv:2103.01550; CDT: Ye et al., 2020, arXiv:2001.01385.

    Differs from the paper: nothing; the defaults are the paper's for CIFAR-10-LT (gamma 0.15, tau 1.25).
    """

    scale: Tensor
    adjustment: Tensor

    def __init__(self, class_counts: Int[Tensor, "C"], *, gamma: float = 0.15, tau: float = 1.25) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must be >= 0, got {gamma}")
        counts = positive_counts(class_counts)
        self.register_buffer("scale", ((counts / counts.max()) ** gamma).float())
        self.register_buffer("adjustment", (tau * torch.log(counts / counts.sum())).float())

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        wide = adjusted(at_least_float32(logits), torch.zeros_like(self.scale))  # as many logits as classes
        return cross_entropy_rows(adjusted(wide * self.scale.to(wide), self.adjustment), ids)

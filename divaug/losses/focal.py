import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import cross_entropy_rows


@LOSSES.register("focal", tune={"gamma": (0.5, 5.0)})
class Focal(nn.Module):
    """Scale cross-entropy by (1 - p) ** gamma, where p is the probability of the label.

    Class weights multiply the result and never enter p.

    Args:
        gamma: Focus on hard rows, >= 0; 0 is cross-entropy.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv:1708.02002, eq. 4.

    Differs from the paper: softmax over classes, where the paper has one sigmoid per class; gamma is 1 by default, as
    in the long-tailed literature (Cao et al. 2019), where the paper has 2.
    """

    def __init__(self, *, gamma: float = 1.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma must be >= 0, got {gamma}")
        self.gamma = gamma

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        entropy = cross_entropy_rows(logits, ids)
        # -expm1(-l) = 1 - p, exact for confident rows; the floor keeps the gradient of 0 ** gamma finite for gamma < 1.
        wrong = (-torch.expm1(-entropy)).clamp_min(torch.finfo(entropy.dtype).tiny)
        return wrong**self.gamma * entropy

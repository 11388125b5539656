import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import at_least_float32


@LOSSES.register("l2_svm")
class L2SVM(nn.Module):
    """Squared hinge of every class against the rest: sum over classes of max(0, 1 - s * logit) ** 2.

    s is 1 for the label and -1 for the other classes. The weight decay of the head is the margin's regulariser.

    Reference:
        Tang, Deep Learning using Linear Support Vector Machines, 2013, arXiv:1306.0239; Agarap, An Architecture
        Combining CNN and SVM, 2017, arXiv:1712.03541.

    Differs from the paper: the penalty C is 1; the ratio of loss to weight decay takes its place.
    """

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        wide = at_least_float32(logits)
        sign = torch.full_like(wide, -1.0).scatter_(1, ids[:, None], 1.0)
        return (1 - sign * wide).clamp_min(0).square().sum(1)

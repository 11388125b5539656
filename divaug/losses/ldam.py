import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import cross_entropy_rows, of_classes, positive_counts


@LOSSES.register("ldam", tune={"max_m": (0.1, 0.8)})
class LDAM(nn.Module):
    """Cross-entropy with a margin on the label's cosine, larger for rarer classes: m_c ~ n_c ** -1/4.

    Needs a cosine head: the margin is a difference of cosines, so the loss subtracts head_scale * m_c from the label's
    final logit and has no scale of its own.

    Args:
        class_counts: Training images of each class, >= 1.
        head_scale: Scale by which the head multiplies cosines.
        max_m: Margin of the rarest class, in cosine units, >= 0; 0 is cross-entropy.

    Reference:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019,
        arXiv:1906.07413, eq. 13.

    Differs from the paper: the scale is applied in the head, in the paper's code in the loss. The results are equal.
    """

    margins: Tensor

    def __init__(self, class_counts: Int[Tensor, "C"], head_scale: float, *, max_m: float = 0.5) -> None:
        super().__init__()
        if max_m < 0:
            raise ValueError(f"max_m must be >= 0, got {max_m}")
        if head_scale <= 0:
            raise ValueError(f"head_scale must be > 0, got {head_scale}")
        margins = positive_counts(class_counts) ** -0.25
        self.register_buffer("margins", (head_scale * max_m * margins / margins.max()).float())

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        logits = of_classes(logits, len(self.margins))
        margin = torch.zeros_like(logits).scatter_(1, ids[:, None], self.margins.to(logits)[ids][:, None])
        return cross_entropy_rows(logits - margin, ids)

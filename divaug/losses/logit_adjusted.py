from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import adjusted, cross_entropy_rows, positive_counts


@LOSSES.register("logit_adjusted", tune={"tau": (0.25, 2.0)})
class LogitAdjusted(nn.Module):
    """Cross-entropy of logits + tau * log pi_c, where pi are the class shares of the training cut.

    Args:
        class_counts: Training images of each class, >= 1.
        tau: Strength; 0 is cross-entropy, 1 equals ``balanced_softmax``.

    Reference:
        Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021, arXiv:2007.07314, eq. 10.

    Differs from the paper: nothing.
    """

    adjustment: Tensor

    def __init__(self, class_counts: Int[Tensor, "C"], *, tau: float = 1.0) -> None:
        super().__init__()
        counts = positive_counts(class_counts)
        self.register_buffer("adjustment", (tau * (counts / counts.sum()).log()).float())

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        return cross_entropy_rows(adjusted(logits, self.adjustment), ids)

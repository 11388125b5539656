from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import adjusted, cross_entropy_rows, positive_counts


@LOSSES.register("balanced_softmax")
class BalancedSoftmax(nn.Module):
    """Cross-entropy of logits + log n_c, so that the softmax describes a balanced test set.

    Args:
        class_counts: Training images of each class, >= 1.

    Reference:
        Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, arXiv:2007.10740, eq. 4.

    Differs from the paper: nothing (its meta-sampler is another method).
    """

    log_counts: Tensor

    def __init__(self, class_counts: Int[Tensor, "C"]) -> None:
        super().__init__()
        self.register_buffer("log_counts", positive_counts(class_counts).log().float())

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        return cross_entropy_rows(adjusted(logits, self.log_counts), ids)

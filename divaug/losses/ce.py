from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import cross_entropy_rows


@LOSSES.register("ce")
class CrossEntropy(nn.Module):
    """Cross-entropy.

    Differs from the paper: there is none.
    """

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        return cross_entropy_rows(logits, ids)

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from divaug.config.registry import LOSSES
from divaug.losses._logits import at_least_float32


@LOSSES.register("label_smoothing", tune={"smoothing": (0.02, 0.3, "log")})
class LabelSmoothing(nn.Module):
    """Cross-entropy with a share of the label's mass spread over all classes.

    Args:
        smoothing: That share, in [0, 1); 0 is cross-entropy.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv:1512.00567, sec. 7.

    Differs from the paper: nothing.
    """

    def __init__(self, *, smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), got {smoothing}")
        self.smoothing = smoothing

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        wide = at_least_float32(logits)
        return F.cross_entropy(wide, ids, reduction="none", label_smoothing=self.smoothing)

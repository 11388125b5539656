import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from divaug.config.registry import LOSSES
from divaug.losses._logits import of_classes, positive_counts

SHAPES = ("concave", "linear", "convex")


@LOSSES.register("label_aware_smoothing", tune={"head": (0.1, 0.5)})
class LabelAwareSmoothing(nn.Module):
    """Cross-entropy with labels smoothed the more, the larger their class: networks are too sure of large classes.

    A label keeps 1 - e of its mass, and the other classes share e equally. e is ``head`` for the largest class and
    ``tail`` for the smallest.

    Args:
        class_counts: Training images of each class, >= 1.
        head: Smoothing of the largest class, in [0, 1).
        tail: Smoothing of the smallest class, in [0, head].
        shape: How it grows between them: ``concave`` (a sine), ``linear`` or ``convex``.

    Reference:
        Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021, arXiv:2104.00466, eq. 3 to 5.

    Differs from the paper: nothing; its code spreads e over all classes, the label among them. The paper uses it in its
    second stage, on frozen features.
    """

    smoothing: Tensor

    def __init__(
        self, class_counts: Int[Tensor, "C"], *, head: float = 0.3, tail: float = 0.0, shape: str = "concave"
    ) -> None:
        super().__init__()
        if not 0 <= tail <= head < 1:
            raise ValueError(f"0 <= tail <= head < 1 must hold, got tail {tail} and head {head}")
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
        counts = positive_counts(class_counts)
        size = (counts - counts.min()) / (counts.max() - counts.min()).clamp_min(1)  # 0 for the smallest, 1
        if shape == "concave":
            size = torch.sin(size * math.pi / 2)
        elif shape == "convex":
            size = 1 - torch.cos(size * math.pi / 2)
        self.register_buffer("smoothing", (tail + (head - tail) * size).float())

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        log_p = F.log_softmax(of_classes(logits, len(self.smoothing)), dim=1)
        own = log_p.gather(1, ids[:, None]).squeeze(1)
        share = self.smoothing.to(log_p)[ids]
        others = (log_p.sum(1) - own) / max(1, log_p.shape[1] - 1)
        return -(1 - share) * own - share * others

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.contracts import Donors
from divaug.base.labels import MixedLabels
from divaug.config.registry import MIX
from divaug.mix._mix import check_alpha, on, rows_of


@dataclass(frozen=True)
class ResamplePlan:
    """Which rows are blended: ``rows`` and ``partner`` are positions in the batch, with repetitions."""

    rows: Int[np.ndarray, "B"]
    partner: Int[np.ndarray, "B"]
    kept: float


@MIX.register("balanced_mixup", tune={"alpha": (0.05, 1.0, "log")})
class BalancedMixup:
    """Mixup within a batch whose classes have been made equal: the REMIX of Bellinger et al.

    Every class in the batch is resampled to the size of the largest. As many rows as the batch has are then drawn from
    these and blended, images and labels by the same share.

    Args:
        alpha: The share kept is drawn from Beta(alpha, alpha), > 0.

    Reference:
        Bellinger, Corizzo and Japkowicz, ReMix: Calibrated Resampling for Class Imbalance in Deep Learning, 2020,
        arXiv:2012.02312.

    Differs from the paper: a class keeps its own rows and is filled up by drawing with replacement; the batch is then
    drawn without replacement. It is neither the Remix of Chou et al. nor the Balanced-MixUp of Galdran et al. (2021,
    arXiv:2109.09850), which blends a batch drawn image by image with one drawn class by class.
    """

    prob = 1.0  # of every step
    strengths = ({"alpha": 0.2}, {"alpha": 1.0}, {"alpha": 8.0})

    def __init__(self, *, alpha: float = 0.2) -> None:
        self.alpha = check_alpha(alpha)

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> ResamplePlan:
        """Draw rows, partners and the share kept."""
        present, of_row, counts = np.unique(labels.cpu().numpy(), return_inverse=True, return_counts=True)
        largest, rows = counts.max(), []
        for c in range(len(present)):
            members = np.flatnonzero(of_row == c)
            rows.append(np.concatenate([members, rng.choice(members, largest - len(members))]))
        picked = rng.choice(np.concatenate(rows), len(labels), replace=False)
        return ResamplePlan(picked, rng.permutation(picked), float(rng.beta(self.alpha, self.alpha)))

    def made_of(self, plan: ResamplePlan, rows: int) -> Int[np.ndarray, "B"]:
        """Return the row that each row comes from before blending: rows of the batch are drawn anew."""
        return plan.rows

    def apply(
        self,
        images: Float[Tensor, "B ch H W"],
        labels: Int[Tensor, "B"],
        plan: ResamplePlan,
        donors: Donors | None = None,
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Resample and blend; the inputs are not modified. Row i's first label is that of the row drawn for it."""
        rows, partner = on(images.device, plan.rows), on(images.device, plan.partner)
        blended = rows_of(images, partner).lerp_(rows_of(images, rows), plan.kept)
        kept = torch.full((len(labels),), plan.kept, device=images.device)
        mixed = (rows != partner) & (0 < plan.kept < 1)
        ids = torch.stack([labels[rows], labels[partner]], dim=1)
        return blended, MixedLabels(ids, torch.stack([kept, 1 - kept], dim=1), mixed)

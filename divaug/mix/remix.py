import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.labels import MixedLabels
from divaug.mix._blend import BlendPlan, blend, check_alpha
from divaug.registry import MIX


@MIX.register("remix")
class Remix:
    """Mixup whose label goes wholly to the rarer class when the two differ enough in size.

    With x the share of row i's picture in the blend of rows i and j: its label weight is 0 if n_i / n_j >= kappa and
    x < tau; 1 if n_i / n_j <= 1 / kappa and 1 - x < tau; else x.

    Args:
        class_counts: Training pictures of each class, >= 1.
        alpha: Beta parameter of the share, > 0.
        kappa: Ratio of class sizes from which labels are moved, >= 1.
        tau: Share below which the larger class may lose its label, in [0, 1]; 0 is mixup.

    Reference:
        Chou et al., Remix: Rebalanced Mixup, ECCV Workshops 2020, arXiv:2007.03943, eq. 6.

    Differs from the paper: nothing. Not the REMIX of Bellinger et al., which resamples the batch.
    """

    def __init__(
        self, class_counts: Int[Tensor, "C"], *, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5
    ) -> None:
        self.alpha = check_alpha(alpha)
        if kappa < 1:
            raise ValueError(f"kappa must be >= 1, got {kappa}")
        if not 0 <= tau <= 1:
            raise ValueError(f"tau must lie in [0, 1], got {tau}")
        if empty := torch.nonzero(class_counts <= 0).flatten().tolist():
            raise ValueError(f"class_counts must be >= 1, but classes {empty} have no images")
        self.kappa, self.tau = kappa, tau
        self.counts = class_counts.double()

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> BlendPlan:
        """Draw partners and the share kept."""
        return BlendPlan(rng.permutation(len(labels)), float(rng.beta(self.alpha, self.alpha)))

    def apply(
        self,
        images: Float[Tensor, "B ch H W"],
        labels: Int[Tensor, "B"],
        plan: BlendPlan,
        donors: object = None,
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Blend, and move labels towards the rarer class; the inputs are not modified."""
        partner = torch.from_numpy(plan.partner).to(images.device)
        counts = self.counts.to(images.device)
        ratio = counts[labels] / counts[labels[partner]]
        kept = torch.full((len(labels),), plan.kept, device=images.device)
        kept = torch.where((ratio >= self.kappa) & (plan.kept < self.tau), 0.0, kept)
        kept = torch.where((ratio <= 1 / self.kappa) & (1 - plan.kept < self.tau), 1.0, kept)
        return blend(images, labels, plan, kept)

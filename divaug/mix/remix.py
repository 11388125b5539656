import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.contracts import Donors, Partner
from divaug.base.labels import MixedLabels
from divaug.config.registry import MIX
from divaug.mix._mix import BlendMix, BlendPlan, blend, mixed_rows, on


@MIX.register("remix", tune={"alpha": (0.1, 2.0, "log"), "kappa": (1.5, 10.0, "log"), "tau": (0.2, 0.8)})
class Remix(BlendMix):
    """Mixup whose label goes entirely to the rarer class when the two classes differ enough in size.

    With x the share of row i's image in the blend of rows i and j, its label weight is 0 if n_i / n_j >= kappa and
    x < tau; 1 if n_i / n_j <= 1 / kappa and 1 - x < tau; else x.

    Args:
        class_counts: Training images of each class, >= 1.
        alpha: The share kept is drawn from Beta(alpha, alpha), > 0.
        kappa: Ratio of class sizes at which labels start to move, >= 1.
        tau: Share below which the larger class may lose its label, in [0, 1]; 0 is mixup.
        prob: Share of steps (of rows, with per_row) that are mixed, in [0, 1].
        per_row: Draw a share for each row instead of one for the batch.
        partner: Rule that draws partners: uniform (another row of the batch), minority, within_group, diverse or
            redundant (from the whole training cut).

    Reference:
        Chou et al., Remix: Rebalanced Mixup, ECCV Workshops 2020, arXiv:2007.03943.

    Differs from the paper: nothing with these defaults. Not the REMIX of Bellinger et al. (``balanced_mixup``).
    """

    strengths = ({"alpha": 0.2}, {"alpha": 1.0}, {"alpha": 8.0})

    def __init__(
        self,
        class_counts: Int[Tensor, "C"],
        *,
        alpha: float = 1.0,
        kappa: float = 3.0,
        tau: float = 0.5,
        prob: float = 1.0,
        per_row: bool = False,
        partner: Partner | str | None = "uniform",
    ) -> None:
        super().__init__(alpha=alpha, prob=prob, per_row=per_row, partner=partner)
        if kappa < 1:
            raise ValueError(f"kappa must be >= 1, got {kappa}")
        if not 0 <= tau <= 1:
            raise ValueError(f"tau must lie in [0, 1], got {tau}")
        if empty := torch.nonzero(class_counts <= 0).flatten().tolist():
            raise ValueError(f"class_counts must be >= 1, but classes {empty} have no images")
        self.kappa, self.tau = kappa, tau
        self.counts = class_counts.double()

    def apply(
        self, images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: BlendPlan, donors: Donors | None = None
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Blend, and move labels towards the rarer class; the inputs are not modified."""
        other, other_labels, index = self.pair(images, labels, plan.partner, donors)
        counts = self.counts.to(images.device, non_blocking=True)
        ratio = counts[labels] / counts[other_labels]
        share = on(images.device, plan.kept)
        mixed = on(images.device, mixed_rows(plan.partner, plan.kept, donors))
        kept = torch.where(mixed & (ratio >= self.kappa) & (share < self.tau), 0.0, share)
        kept = torch.where(mixed & (ratio <= 1 / self.kappa) & (1 - share < self.tau), 1.0, kept)
        ids = torch.stack([labels, other_labels], dim=1)
        return blend(images, other, index, plan.kept), MixedLabels(ids, torch.stack([kept, 1 - kept], dim=1), mixed)

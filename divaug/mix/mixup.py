from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.contracts import Donors, Partner
from divaug.base.labels import MixedLabels
from divaug.config.registry import MIX
from divaug.mix._mix import BlendMix, BlendPlan, blend, mixed_rows, pair_labels


@MIX.register("mixup", tune={"alpha": (0.1, 2.0, "log"), "prob": (0.2, 1.0)})
class Mixup(BlendMix):
    """Blend every image with a partner, and their labels by the same share.

    Args:
        alpha: The share kept is drawn from Beta(alpha, alpha), > 0; 1 is uniform, near 0 hardly anything is blended.
        prob: Share of steps (of rows, with per_row) that are mixed, in [0, 1].
        per_row: Draw a share for each row instead of one for the batch.
        partner: Rule that draws partners: uniform (another row of the batch), minority, within_group, diverse or
            redundant (from the whole training cut).

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv:1710.09412.

    Differs from the paper: nothing with these defaults.
    """

    strengths = ({"alpha": 0.2}, {"alpha": 1.0}, {"alpha": 8.0})

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        prob: float = 1.0,
        per_row: bool = False,
        partner: Partner | str | None = "uniform",
    ) -> None:
        super().__init__(alpha=alpha, prob=prob, per_row=per_row, partner=partner)

    def apply(
        self, images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: BlendPlan, donors: Donors | None = None
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Blend; the inputs are not modified."""
        other, other_labels, index = self.pair(images, labels, plan.partner, donors)
        targets = pair_labels(labels, other_labels, plan.kept, mixed_rows(plan.partner, plan.kept, donors))
        return blend(images, other, index, plan.kept), targets

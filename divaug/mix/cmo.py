from jaxtyping import Int
from torch import Tensor

from divaug.base.contracts import Partner
from divaug.base.groups import same_counts
from divaug.config.registry import MIX
from divaug.mix._mix import BoxMix
from divaug.mix.partners.minority import Minority


@MIX.register("cmo", tune={"alpha": (0.2, 5.0, "log"), "prob": (0.2, 1.0)})
class CMO(BoxMix):
    """Paste a box of a minority-weighted image, from the whole training set, into every image of the batch.

    The background comes from the sampler, the foreground from the rule ``minority``; the rest is CutMix.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Training images of each class.
        alpha: The share kept is drawn from Beta(alpha, alpha), > 0; clipping at the border can only raise it.
        prob: Share of steps (of rows, with per_row) that are mixed, in [0, 1].
        per_row: Draw a box for each row instead of one for the batch.
        partner: Rule that draws partners: uniform (another row of the batch), minority, within_group, diverse or
            redundant (from the whole training cut).

    Reference:
        Park et al., The Majority Can Help the Minority: Context-rich Minority Oversampling, CVPR 2022,
        arXiv:2112.00412.

    Differs from the paper: foregrounds are drawn anew each step; nothing else with these defaults. The authors mix
    neither in the first four nor in the last three of 200 epochs: start 0.02, stop 0.985 in the method.
    """

    strengths = ({"alpha": 0.2}, {"alpha": 1.0}, {"alpha": 8.0})

    def __init__(
        self,
        labels: Int[Tensor, "N"],
        class_counts: Int[Tensor, "C"],
        *,
        alpha: float = 1.0,
        prob: float = 0.5,
        per_row: bool = False,
        partner: Partner | str | None = "minority",
    ) -> None:
        same_counts(labels, class_counts)
        if partner == "minority":  # called by hand; the registry passes a built rule
            partner = Minority(labels, class_counts)
        super().__init__(alpha=alpha, prob=prob, per_row=per_row, partner=partner)

from divaug.base.contracts import Partner
from divaug.config.registry import MIX
from divaug.mix._mix import BoxMix


@MIX.register("cutmix", tune={"alpha": (0.2, 5.0, "log"), "prob": (0.2, 1.0)})
class CutMix(BoxMix):
    """Paste a box of another image into every image; label weights are the shares of pixels.

    Args:
        alpha: The share kept is drawn from Beta(alpha, alpha), > 0; clipping at the border can only raise it.
        prob: Share of steps (of rows, with per_row) that are mixed, in [0, 1].
        per_row: Draw a box for each row instead of one for the batch.
        partner: Rule that draws partners: uniform (another row of the batch), minority, within_group, diverse or
            redundant (from the whole training cut).

    Reference:
        Yun et al., CutMix, ICCV 2019, arXiv:1905.04899.

    Differs from the paper: nothing with these defaults; label weights follow the clipped box, as in the
    authors' code, and prob is 0.5 as in their CIFAR experiments.
    """

    strengths = ({"alpha": 0.2}, {"alpha": 1.0}, {"alpha": 8.0})

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        prob: float = 0.5,
        per_row: bool = False,
        partner: Partner | str | None = "uniform",
    ) -> None:
        super().__init__(alpha=alpha, prob=prob, per_row=per_row, partner=partner)

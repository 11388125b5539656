import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.labels import MixedLabels
from divaug.mix._blend import BoxPlan, check_alpha, check_prob, draw_box, paste
from divaug.registry import MIX


@MIX.register("cutmix")
class CutMix:
    """Paste a box of another picture of the batch into every picture; label weights are the shares of pixels.

    Args:
        alpha: The share kept is drawn from Beta(alpha, alpha), > 0; clipping at the border can only raise it.
        prob: Share of steps that are mixed at all, in [0, 1].

    Reference:
        Yun et al., CutMix, ICCV 2019, arXiv:1905.04899.

    Differs from the paper: nothing; label weights follow the clipped box, as in the authors' code, and prob is the
    0.5 of their CIFAR experiments.
    """

    def __init__(self, *, alpha: float = 1.0, prob: float = 0.5) -> None:
        self.alpha = check_alpha(alpha)
        self.prob = check_prob(prob)

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> BoxPlan:
        """Draw partners and the box."""
        mixed, kept = rng.random() < self.prob, float(rng.beta(self.alpha, self.alpha))
        box = draw_box(size, kept, rng)
        return BoxPlan(rng.permutation(len(labels)), box if mixed else (0, 0, 0, 0))

    def apply(
        self,
        images: Float[Tensor, "B ch H W"],
        labels: Int[Tensor, "B"],
        plan: BoxPlan,
        donors: object = None,
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Paste; the inputs are not modified."""
        partner = torch.from_numpy(plan.partner).to(images.device)
        foreign = partner != torch.arange(len(labels), device=images.device)
        return paste(images, labels, images[partner], labels[partner], plan.box, foreign)

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.labels import MixedLabels
from divaug.mix._blend import BlendPlan, blend, check_alpha
from divaug.registry import MIX


@MIX.register("mixup")
class Mixup:
    """Blend every picture with another of the batch, and their labels by the same share.

    One share, drawn from Beta(alpha, alpha), serves the whole batch.

    Args:
        alpha: Beta parameter, > 0; 1 is uniform, towards 0 hardly anything is blended.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv:1710.09412.

    Differs from the paper: nothing.
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = check_alpha(alpha)

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
        """Blend; the inputs are not modified."""
        kept = torch.full((len(labels),), plan.kept, device=images.device)
        return blend(images, labels, plan, kept)

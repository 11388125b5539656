from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.labels import MixedLabels
from divaug.mix._blend import BoxPlan, check_alpha, check_prob, draw_box, paste
from divaug.mix._partners import minority_partners
from divaug.registry import MIX


@MIX.register("cmo")
class CMO:
    """Paste a box of a minority-weighted picture, from the whole training set, into every picture of the batch.

    The background comes from the sampler; the foreground of class c is drawn in proportion to n_c ** (1 - power).

    Args:
        labels: Class of every picture of the training cut.
        class_counts: Training pictures of each class.
        alpha: The share kept is drawn from Beta(alpha, alpha), > 0; clipping at the border can only raise it.
        prob: Share of steps that are mixed at all, in [0, 1].
        power: Rarity exponent of a picture's weight n_c ** -power, >= 0: 1 draws every class alike, 0 as the data are.

    Reference:
        Park et al., The Majority Can Help the Minority: Context-rich Minority Oversampling, CVPR 2022,
        arXiv:2112.00412.

    Differs from the paper: foregrounds are drawn anew each step where the paper runs a second weighted loader; the
    distribution is the same. When it starts and stops is the method's phases.
    """

    def __init__(
        self,
        labels: Int[Tensor, "N"],
        class_counts: Int[Tensor, "C"],
        *,
        alpha: float = 1.0,
        prob: float = 0.5,
        power: float = 1.0,
    ) -> None:
        self.alpha = check_alpha(alpha)
        self.prob = check_prob(prob)
        self.partners = minority_partners(labels, class_counts, power)

    def donors(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"]:
        """Draw the foregrounds: positions in the training cut."""
        return self.partners.draw(rng, len(labels))

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> BoxPlan:
        """Draw the box."""
        mixed, kept = rng.random() < self.prob, float(rng.beta(self.alpha, self.alpha))
        box = draw_box(size, kept, rng)
        return BoxPlan(None, box if mixed else (0, 0, 0, 0))

    def apply(
        self, images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: BoxPlan, donors: Any = None
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Paste the donors' boxes; the inputs are not modified."""
        if donors is None:
            raise ValueError("cmo needs the donors that the loader brings: draw them with donors(labels, rng)")
        foreign = torch.ones(len(labels), dtype=torch.bool, device=images.device)
        return paste(images, labels, donors.images, donors.labels.to(labels.device), plan.box, foreign)

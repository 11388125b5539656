import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import ClassDraw
from divaug.config.registry import PARTNERS


@PARTNERS.register("minority")
class Minority:
    """Draw partners from the whole training cut with weight n_c ** -power per image.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Training images of each class.
        power: Rarity exponent, >= 0: 1 draws all classes equally, 0 by size.

    Reference:
        Park et al., The Majority Can Help the Minority, CVPR 2022, arXiv:2112.00412 (the weights of CMO's foregrounds).

    Differs from the paper: partners are drawn anew each step, where the authors run a second loader; the weights are
    those of their code.
    """

    strengths = ({"power": 0.0}, {"power": 0.5}, {"power": 1.0})

    def __init__(self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"], *, power: float = 1.0) -> None:
        same_counts(labels, class_counts)
        if power < 0:
            raise ValueError(f"power must be >= 0, got {power}")
        counts = class_counts.double()
        self.source = ClassDraw(labels, torch.where(counts > 0, counts.clamp_min(1) ** (1 - power), 0.0))

    def draw(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"]:
        """Draw; the rows' own labels do not matter."""
        return self.source.draw(rng, len(labels))

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import ClassDraw
from divaug.config.registry import SAMPLERS


@SAMPLERS.register("reversed")
class Reversed:
    """Draw classes in proportion to 1 / n_c: the smallest class most often.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Images of each class.

    Reference:
        Zhou et al., BBN: Bilateral-Branch Network, CVPR 2020, arXiv:1912.02413, eq. 4.

    Differs from the paper: this is the sampler of its second branch alone.
    """

    def __init__(self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"]) -> None:
        same_counts(labels, class_counts)
        self.rows = len(labels)
        self.source = ClassDraw(labels, torch.where(class_counts > 0, 1 / class_counts.double().clamp_min(1), 0.0))

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        return self.source.probs

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return as many indices as there are images."""
        return self.source.draw(rng, self.rows)

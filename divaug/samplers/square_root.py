import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import ClassDraw
from divaug.config.registry import SAMPLERS


@SAMPLERS.register("square_root", tune={"power": (0.0, 1.0)})
class SquareRoot:
    """Draw classes with probability proportional to a power of their size; the square root by default.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Images of each class.
        power: Exponent, >= 0: 1 draws classes by size, 0 all classes equally.

    Reference:
        Mahajan et al., Exploring the Limits of Weakly Supervised Pretraining, ECCV 2018, arXiv:1805.00932; Kang et
        al., Decoupling Representation and Classifier, ICLR 2020, arXiv:1910.09217, eq. 1.

    Differs from the paper: nothing.
    """

    def __init__(self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"], *, power: float = 0.5) -> None:
        if power < 0:
            raise ValueError(f"power must be >= 0, got {power}")
        same_counts(labels, class_counts)
        self.rows = len(labels)
        self.source = ClassDraw(labels, torch.where(class_counts > 0, class_counts.double() ** power, 0.0))

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        return self.source.probs

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return as many indices as there are images."""
        return self.source.draw(rng, self.rows)

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import ClassDraw
from divaug.config.registry import SAMPLERS


@SAMPLERS.register("progressively_balanced")
class ProgressivelyBalanced:
    """Draw classes by size at first and all equally at the end, moving linearly between.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Images of each class.

    Reference:
        Kang et al., Decoupling Representation and Classifier, ICLR 2020, arXiv:1910.09217, eq. 2.

    Differs from the paper: nothing.
    """

    def __init__(self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"]) -> None:
        same_counts(labels, class_counts)
        self.labels, self.rows = labels, len(labels)
        self.by_size = class_counts.double() / class_counts.sum()
        self.equal = (class_counts > 0).double() / (class_counts > 0).sum()

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        return (1 - progress) * self.by_size + progress * self.equal

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return as many indices as there are images."""
        return ClassDraw(self.labels, self.class_probs(progress)).draw(rng, self.rows)

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import ClassDraw
from divaug.config.registry import SAMPLERS


@SAMPLERS.register("class_balanced_effective", tune={"beta": [0.9, 0.99, 0.999, 0.9999]})
class ClassBalancedEffective:
    """Draw each image with probability inverse to its class's effective number.

    The effective number of n images is (1 - beta ** n) / (1 - beta); a class is drawn in proportion to n divided by it.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Images of each class.
        beta: In [0, 1): 0 draws classes by size; near 1 all classes are equally likely.

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, arXiv:1901.05555.

    Differs from the paper: the paper weights the loss; sampling by the same weights is the "Resample" rule of Cao et
    al., NeurIPS 2019, arXiv:1906.07413.
    """

    def __init__(self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"], *, beta: float = 0.9999) -> None:
        if not 0 <= beta < 1:
            raise ValueError(f"beta must lie in [0, 1), got {beta}")
        same_counts(labels, class_counts)
        self.rows = len(labels)
        effective = (1 - beta ** class_counts.clamp_min(1).double()) / (1 - beta)
        self.source = ClassDraw(labels, class_counts / effective)

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        return self.source.probs

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return as many indices as there are images."""
        return self.source.draw(rng, self.rows)

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.config.registry import SAMPLERS


@SAMPLERS.register("uniform")
class Uniform:
    """Visit every image once per epoch, in random order.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Images of each class.

    Differs from the paper: there is none.
    """

    def __init__(self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"]) -> None:
        same_counts(labels, class_counts)
        self.rows = len(labels)
        self.shares = class_counts.double() / class_counts.sum()

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        return self.shares

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return a permutation of all images."""
        return torch.from_numpy(rng.permutation(self.rows))

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import ClassDraw
from divaug.config.registry import SAMPLERS


@SAMPLERS.register("oversample")
class Oversample:
    """Draw every class equally often, images with replacement (random over-sampling, "class-balanced").

    Args:
        labels: Class of every image of the training cut.
        class_counts: Images of each class.
        at_least: Draw a class as often as if it had this many images; 0 raises all to the largest class.

    Reference:
        Buda et al., A systematic study of the class imbalance problem, 2018, arXiv:1710.05381.

    Differs from the paper: an epoch has as many draws as there are images, so that all samplers cost the same steps;
    the paper enlarges the training set.
    """

    def __init__(self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"], *, at_least: int = 0) -> None:
        if at_least < 0:
            raise ValueError(f"at_least must be >= 0, got {at_least}")
        same_counts(labels, class_counts)
        self.rows = len(labels)
        raised = class_counts.clamp_min(at_least or int(class_counts.max()))
        self.source = ClassDraw(labels, torch.where(class_counts > 0, raised.double(), 0.0))

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        return self.source.probs

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return as many indices as there are images."""
        return self.source.draw(rng, self.rows)

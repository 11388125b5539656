"""Weights of classes in the loss; every rule is scaled so that the weights sum to C."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.config.registry import CLASS_WEIGHTS
from divaug.losses._logits import positive_counts


@CLASS_WEIGHTS.register("none")
def no_weights(class_counts: Int[Tensor, "C"]) -> None:
    """Weigh all classes alike."""


@CLASS_WEIGHTS.register("inverse_frequency", tune={"power": (0.25, 1.0)})
def inverse_frequency(class_counts: Int[Tensor, "C"], *, power: float = 1.0) -> Float[Tensor, "C"]:
    """Weigh classes by n ** -power.

    Args:
        class_counts: Training images of each class, >= 1.
        power: Exponent, >= 0; 0 weighs all alike.

    Raises:
        ValueError: A class has no image, or the power is below 0.

    Reference:
        Huang et al., Learning Deep Representation for Imbalanced Classification, CVPR 2016 (power 1).

    Differs from the paper: the exponent; the weights sum to C.
    """
    if power < 0:
        raise ValueError(f"power must be >= 0, got {power}")
    return _scaled(positive_counts(class_counts).pow(-power))


@CLASS_WEIGHTS.register("effective_number", tune={"beta": [0.9, 0.99, 0.999, 0.9999]})
def effective_number(class_counts: Int[Tensor, "C"], *, beta: float = 0.9999) -> Float[Tensor, "C"]:
    """Weigh classes by (1 - beta) / (1 - beta ** n), the inverse of their effective number.

    Args:
        class_counts: Training images of each class, >= 1.
        beta: In [0, 1); 0 weighs all alike; near 1 it becomes the inverse frequency.

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, arXiv:1901.05555.

    Differs from the paper: divaug divides a batch's loss by the sum of its rows' weights, as torch and LDAM's code do;
    the authors' code divides by the number of rows. Rows drawn by class size have small weights, 0.17 on average in
    CIFAR-10-LT of factor 100, so that at one learning rate these steps are several times as long as theirs.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must lie in [0, 1), got {beta}")
    return _scaled((1 - beta) / (1 - beta ** class_counts.double()))


def _scaled(weights: Float[Tensor, "C"]) -> Float[Tensor, "C"]:
    if not torch.isfinite(weights).all():
        raise ValueError(f"classes {torch.nonzero(~torch.isfinite(weights)).flatten().tolist()} have no images")
    return (weights * (len(weights) / weights.sum())).float()

"""What losses share: float32 rows of cross-entropy, and checked class counts."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def cross_entropy_rows(logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Return each row's cross-entropy, in at least float32, whatever autocast does."""
    return F.cross_entropy(at_least_float32(logits), ids, reduction="none")


def at_least_float32(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """Widen half-precision logits; float64 stays (gradient checks)."""
    return logits if logits.dtype == torch.float64 else logits.float()


def adjusted(logits: Float[Tensor, "B C"], adjustment: Float[Tensor, "C"]) -> Float[Tensor, "B C"]:
    """Add a number per class to the logits, in at least float32; one for all would broadcast silently.

    Raises:
        ValueError: There are not as many logits as classes.
    """
    return of_classes(logits, len(adjustment)) + adjustment


def of_classes(logits: Float[Tensor, "B C"], classes: int) -> Float[Tensor, "B C"]:
    """Return the logits in at least float32.

    Raises:
        ValueError: There are not as many as classes.
    """
    if logits.shape[-1] != classes:
        raise ValueError(f"the loss has counts of {classes} classes, but there are {logits.shape[-1]} logits")
    return at_least_float32(logits)


def positive_counts(class_counts: Int[Tensor, "C"]) -> Float[Tensor, "C"]:
    """Return the counts in float64; a class without images raises ValueError."""
    if empty := torch.nonzero(class_counts <= 0).flatten().tolist():
        raise ValueError(f"class_counts must be >= 1, but classes {empty} have no images")
    return class_counts.double()

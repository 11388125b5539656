"""The contract of the family ``class_weights``; its components are functions, called when they are built."""

import torch

from divaug.testing.kit import Subject, demand


def one_weight_per_class(subject: Subject) -> str:
    weights, classes = subject.make(), subject.facts["num_classes"]
    if weights is None:
        return "all classes alike"
    demand(torch.is_tensor(weights), f"returns {type(weights).__name__} instead of a tensor")
    demand(weights.shape == (classes,), f"returns {tuple(weights.shape)} for {classes} classes")
    demand(weights.dtype == torch.float32, f"returns {weights.dtype}, must be float32")
    demand(torch.isfinite(weights).all() and (weights >= 0).all(), f"weights must be finite and >= 0: {weights}")
    demand(weights.any(), "all weights are 0: nothing would be learned")
    demand(1e-30 < weights.max() < 1e30, f"the largest weight is {weights.max():g}: sums would not be finite")
    return f"float32, from {weights.min():.3g} to {weights.max():.3g}"


def again(subject: Subject) -> str:
    one, other = subject.make(), subject.make()
    demand(one is other is None or torch.equal(one, other), "equal counts give different weights")
    return "equal for equal counts"


CHECKS = (one_weight_per_class, again)

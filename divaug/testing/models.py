"""The contract of the family ``models``: backbones."""

import torch
from torch import Tensor, nn

from divaug.testing.kit import Subject, demand


def _images(subject: Subject, rows: int) -> Tensor:
    height, width = subject.facts["size"]
    return torch.randn(rows, subject.facts["channels"], height, width, generator=torch.Generator().manual_seed(rows))


def embeddings(subject: Subject) -> str:
    backbone = subject.make()
    demand(isinstance(backbone, nn.Module), f"is a {type(backbone).__name__}, not an nn.Module")
    demand(isinstance(getattr(backbone, "feature_dim", None), int), "has no feature_dim, an integer")
    for rows in (2, 7):
        z = backbone(_images(subject, rows))
        demand(torch.is_tensor(z), f"returns {type(z).__name__} instead of a tensor")
        wanted = (rows, backbone.feature_dim)
        demand(tuple(z.shape) == wanted, f"returns {tuple(z.shape)} instead of (B, feature_dim) = {wanted}")
        demand(torch.isfinite(z).all(), "an embedding is not finite")
    backbone.eval()
    demand(len(backbone(_images(subject, 1))) == 1, "cannot embed a single image in eval()")
    return f"D = {backbone.feature_dim}; B = 2, 7, and 1 in eval()"


def learns(subject: Subject) -> str:
    backbone = subject.make()
    backbone.initialize(iter([_images(subject, 32)]))
    backbone(_images(subject, 8)).square().sum().backward()
    got = [p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in backbone.parameters() if p.requires_grad]
    demand(got, "has no trainable parameters")
    demand(any(got), "the gradient reaches no parameter")
    return f"{sum(got)} of {len(got)} trainable tensors get a finite gradient"


def state(subject: Subject) -> str:
    one, other = subject.make(), subject.make()
    one(_images(subject, 8))
    other.load_state_dict(one.state_dict())
    one.eval()
    other.eval()
    z = _images(subject, 3)
    demand(torch.equal(one(z), other(z)), "does not continue from its state_dict: something is kept outside buffers")
    demand(torch.equal(one(z), one(z)), "two passes in eval() differ")
    return "continues from its state_dict; eval() is deterministic"


CHECKS = (embeddings, learns, state)

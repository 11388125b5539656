"""The contract of the family ``heads``."""

import copy

import torch
from torch import Tensor, nn

from divaug.testing.kit import Subject, demand


def _embeddings(subject: Subject, rows: int) -> Tensor:
    return torch.randn(rows, subject.facts["feature_dim"], generator=torch.Generator().manual_seed(rows)).relu()


def logits(subject: Subject) -> str:
    head, classes = subject.make(), subject.facts["num_classes"]
    demand(isinstance(head, nn.Module), f"is a {type(head).__name__}, not an nn.Module")
    for rows in (1, 2, 7):
        out = head(_embeddings(subject, rows))
        demand(torch.is_tensor(out), f"returns {type(out).__name__} instead of a tensor")
        demand(out.shape == (rows, classes), f"returns {tuple(out.shape)} for {rows} rows and {classes} classes")
        demand(torch.isfinite(out).all(), "a logit is not finite")
    return "B = 1, 2, 7; finite"


def weight_and_bias(subject: Subject) -> str:
    head, facts = subject.make(), subject.facts
    for name in ("weight", "bias", "scale", "factors"):
        demand(hasattr(head, name), f"has no {name}")
    wanted = (facts["num_classes"], facts["feature_dim"])
    demand(tuple(head.weight.shape) == wanted, f"weight is {tuple(head.weight.shape)} instead of {wanted}")
    fits = head.bias is None or tuple(head.bias.shape) == wanted[:1]
    demand(fits, f"bias must be None or {wanted[:1]}")
    return f"weight {wanted}, {'no bias' if head.bias is None else 'a bias'}, scale {head.scale:g}"


def factors(subject: Subject) -> str:
    head, z = subject.make(), _embeddings(subject, 7)
    features, weights = head.factors(z)
    bias = 0 if head.bias is None else head.bias
    stated = head.scale * (features[:, None, :] * weights).sum(2) + bias
    same = torch.allclose(stated, head(z), rtol=1e-4, atol=1e-4 * abs(head.scale))
    demand(same, "logits are not scale x the sum of the classification embedding, plus the bias")
    return "logits = scale x sum of the classification embedding + bias"


def learns(subject: Subject) -> str:
    head = subject.make()
    before = copy.deepcopy(head.state_dict())
    demand(list(head.parameters()), "has no parameters")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    ids = torch.arange(7) % subject.facts["num_classes"]
    nn.functional.cross_entropy(head(_embeddings(subject, 7)), ids).backward()
    optimizer.step()
    demand(any(not torch.equal(before[key], value) for key, value in head.state_dict().items()), "does not learn")
    other = subject.make()
    other.load_state_dict(head.state_dict())
    z = _embeddings(subject, 3)
    demand(torch.equal(other(z), head(z)), "does not continue from its state_dict")
    return "a step changes its weights; it continues from its state_dict"


CHECKS = (logits, weight_and_bias, factors, learns)

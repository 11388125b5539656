"""The contract of the family ``partners``."""

import pickle

import torch

from divaug.testing.kit import Subject, demand, rng


def indices(subject: Subject) -> str:
    rule = subject.make()
    if rule is None:
        return "partners come from the batch"
    for rows in (1, 2, 7):
        drawn = rule.draw(subject.labels(rows), rng(rows))
        demand(drawn.dtype == torch.int64 and drawn.shape == (rows,), f"returns {drawn.dtype} {tuple(drawn.shape)}")
        inside = (drawn >= 0) & (drawn < len(subject.facts["labels"]))
        demand(inside.all(), "an index is outside the training cut")
    return "int64, within the training cut"


def replay(subject: Subject) -> str:
    rule = pickle.loads(pickle.dumps(subject.make()))
    if rule is None:
        return "partners come from the batch"
    labels = subject.labels(64)
    a, b, c = (rule.draw(labels, rng(number)) for number in (1, 1, 2))
    demand(torch.equal(a, b), "equal generators give different partners")
    demand(not torch.equal(a, c), "two steps get the same partners")
    classes = len(subject.facts["labels"][a].unique())
    return f"equal draws for equal generators; {classes} classes among 64 partners"


CHECKS = (indices, replay)

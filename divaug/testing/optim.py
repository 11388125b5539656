"""The contract of the family ``optim``."""

import copy

import torch

from divaug.testing.kit import Subject, demand


def steps(subject: Subject) -> str:
    optimizer = subject.make()
    demand(isinstance(optimizer, torch.optim.Optimizer), f"is a {type(optimizer).__name__}, no torch optimiser")
    groups = optimizer.param_groups
    demand(groups and all("lr" in group for group in groups), "its groups have no lr, which the schedule sets")
    parameters = [p for group in groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = sum(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    demand(moved == len(parameters), f"{len(parameters) - moved} of {len(parameters)} tensors do not move")
    for group in groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    still = all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    demand(still, "moves with a learning rate of 0: the schedule could not end")
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return f"moves all {moved} tensors, follows the learning rate, continues from its state_dict"


CHECKS = (steps,)

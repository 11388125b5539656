"""Spare every run the import of torch's compiler, which takes longer than the import of torch itself."""

import inspect
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

_Kind = TypeVar("_Kind", bound=Optimizer)
_OUTSIDE_GRAPHS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def eager(kind: type[_Kind]) -> type[_Kind]:
    """Return an optimiser's class that does the same without importing ``torch._dynamo``.

    torch's optimisers import the compiler on their first call, to stay out of graphs that it may compile: 3.3 of the 13
    seconds until the end of a first epoch of digits. Here the undecorated methods are called. Such an optimiser is not
    to be compiled, and its steps are never differentiated.

    Args:
        kind: The class.

    Example:
        >>> import torch
        >>> from divaug.optim._eager import eager
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimiser = eager(torch.optim.SGD)([weight], lr=0.5)
        >>> weight.sum().backward()
        >>> optimiser.step()
        >>> weight.tolist()
        [0.5, 0.5]
    """
    plain: Any = inspect.unwrap(kind.step)

    @torch.no_grad()
    def step(self: Any, closure: Any = None) -> Any:
        return plain(self, closure)

    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in _OUTSIDE_GRAPHS}
    made: Any = type(kind.__name__, (kind,), {"step": step, "__module__": kind.__module__, **methods})
    return made

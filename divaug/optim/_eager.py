"""Spare every run the import of torch's compiler, which takes longer than the import of torch itself."""

import inspect
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

_Kind = TypeVar("_Kind", bound=Optimizer)
_OUTSIDE_GRAPHS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def eager(kind: type[_Kind], module: str | None = None, name: str | None = None) -> type[_Kind]:
    """Return an optimiser's class that does the same without importing ``torch._dynamo``.

    torch's optimisers import the compiler on their first call, to stay out of graphs that it may compile: 3.3 of the 13
    seconds until the end of a first epoch of digits. Here the undecorated methods are called. Such an optimiser is not
    to be compiled, and its steps are never differentiated.

    Args:
        kind: The class.
        module: Where what is returned can be imported from, for pickle; by default where the class was.
        name: Its name there.

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

    step.__doc__ = plain.__doc__
    own: dict[str, Any] = {method: inspect.unwrap(getattr(kind, method)) for method in _OUTSIDE_GRAPHS}
    place = {
        "__module__": module or kind.__module__,
        "__qualname__": name or kind.__qualname__,
        "__doc__": kind.__doc__,
    }
    made: Any = type(kind.__name__, (kind,), {"step": step, **own, **place})
    return made

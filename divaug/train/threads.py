"""How many threads a run gets: by the size of its steps. Threads that wait for one another only burn processors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ENOUGH = 100_000_000  # multiply-adds of a step's forward pass; below it a run gets one thread


def threads_for(network: nn.Module, shape: tuple[int, int, int], rows: int) -> int:
    """Return the threads of a run on the CPU: all that torch has, or one where its steps are small.

    Args:
        network: The network, on the CPU.
        shape: (ch, H, W) of an image.
        rows: Images per step.
    """
    return torch.get_num_threads() if rows * multiply_adds(network, shape) >= ENOUGH else 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch one thread, for work of many small steps; afterwards it has as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def multiply_adds(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the multiply-adds of convolutions and linear layers for one image, forward.

    Args:
        network: Any network on images; it is left as it was.
        shape: (ch, H, W) of an image.

    Example:
        >>> from torch import nn
        >>> from divaug.train.threads import multiply_adds
        >>> multiply_adds(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 10)), (3, 8, 8))
        10656
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        per_output = module.weight[0].numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
        total += output.numel() * per_output

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()(torch.zeros(1, *shape))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return total

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from divaug.config.registry import OPTIM
from divaug.optim._eager import eager

_STEPS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # steep at 0: small singular values come near 1 in few steps


@OPTIM.register("muon")
def muon(parameters: list[dict[str, Any]], lr: float, momentum: float, nesterov: bool, *, gain: float = 1.0) -> "Muon":
    """Muon: kernels of convolutions move by an orthogonalised momentum, everything else by SGD.

    A kernel ``(out, in, h, w)`` is taken as a matrix of ``out`` rows. Before each step it is scaled to the Frobenius
    norm sqrt(out), which changes no output where batch normalisation follows; weight decay has no effect on it. Where
    none follows, as after the patches of a transformer, it does change the network, pretrained ones at the first step.

    Args:
        parameters: Groups of parameters, each with its weight decay.
        lr: Learning rate of the first step, > 0; of both parts.
        momentum: In [0, 1), of both parts.
        nesterov: Nesterov's form, of both parts.
        gain: Factor on the kernels' learning rate, > 0.

    Raises:
        ValueError: ``gain`` is out of range.

    Reference:
        Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024,
        https://kellerjordan.github.io/posts/muon; for convolutions as in arXiv:2404.00498's later code.

    Differs from the paper: iterated in float32 with five steps; kernels keep their norm; heads are trained by SGD.
    """
    if gain <= 0:
        raise ValueError(f"gain must be > 0, got {gain}")
    return Muon(parameters, lr=lr, momentum=momentum, nesterov=nesterov, gain=gain)


@eager
class Muon(Optimizer):
    """See ``muon``."""

    def __init__(
        self, parameters: list[dict[str, Any]], *, lr: float, momentum: float, nesterov: bool, gain: float
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "gain": gain, "weight_decay": 0.0}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - none is used
        """Take a step from the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        kernel = parameter.ndim == 4
        if not kernel and group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * parameter
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        direction = gradient + group["momentum"] * mean if group["nesterov"] else mean
        if not kernel:
            parameter.add_(direction, alpha=-group["lr"])
            return
        parameter.mul_(len(parameter) ** 0.5 / parameter.norm().clamp_min(1e-7))
        turned = orthogonalized(direction.reshape(len(parameter), -1)).view(parameter.shape)
        parameter.add_(turned, alpha=-group["lr"] * group["gain"])


def orthogonalized(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Return about U V^T of a matrix U S V^T, by Newton and Schulz's iteration: singular values come to 0.7 to 1.2.

    Args:
        matrix: Any; where it is 0 the result is 0.
    """
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x

from typing import Any

from torch.optim import AdamW

from divaug.config.registry import OPTIM
from divaug.optim._eager import eager

EagerAdamW = eager(AdamW, __name__, "EagerAdamW")


@OPTIM.register("adamw")
def adamw(parameters: list[dict[str, Any]], lr: float, *, beta1: float = 0.9, beta2: float = 0.999) -> AdamW:
    """Adam with decoupled weight decay.

    Args:
        parameters: Groups of parameters, each with its weight decay.
        lr: Learning rate of the first step, > 0.
        beta1: Decay of the mean gradient, in [0, 1); ``momentum`` and ``nesterov`` have no effect.
        beta2: Decay of the mean squared gradient, in [0, 1).

    Raises:
        ValueError: A value is out of range.

    Reference:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv:1711.05101.

    Differs from the paper: as in torch, decay is multiplied by the learning rate of the step.
    """
    return EagerAdamW(parameters, lr=lr, betas=(beta1, beta2))

from typing import Any

from torch.optim import SGD

from divaug.config.registry import OPTIM
from divaug.optim._eager import eager

EagerSGD = eager(SGD, __name__, "EagerSGD")


@OPTIM.register("sgd")
def sgd(parameters: list[dict[str, Any]], lr: float, momentum: float, nesterov: bool) -> SGD:
    """Stochastic gradient descent with momentum.

    Args:
        parameters: Groups of parameters, each with its weight decay.
        lr: Learning rate of the first step, > 0.
        momentum: In [0, 1).
        nesterov: Nesterov's form; needs momentum > 0.

    Reference:
        Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.

    Differs from the paper: as in torch, the rate multiplies the accumulated momentum instead of each gradient in it, so
    that a drop of the rate also shortens the steps that momentum carries on; decay is added to the gradient.
    """
    return EagerSGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov)

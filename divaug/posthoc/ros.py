from collections.abc import Callable

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.posthoc._oversample import Oversampled, ros


@POSTHOC.register("ros")
class NewHeadRos(Oversampled):
    """A new head, trained on embeddings of which the smaller classes are copied until all are as large.

    Args:
        new_head: Returns a head with new weights.
        seed: The run's seed, which fixes the order of the rows.
        epochs: Epochs of the new head, >= 1.
        lr: Its initial learning rate, > 0.

    Reference:
        Dablain et al., arXiv:2207.06080 (its control).

    Differs from the paper: no weight decay (2e-4 in the authors' code), a cosine learning rate.
    """

    name, make = "ros", staticmethod(ros)

    def __init__(self, new_head: Callable[[], Head], seed: int, *, epochs: int = 10, lr: float = 0.1) -> None:
        super().__init__(new_head, seed, epochs=epochs, lr=lr)

from collections.abc import Callable

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.posthoc._oversample import Oversampled, eos


@POSTHOC.register("eos")
class NewHeadEos(Oversampled):
    """A new head, trained on embeddings and points on the way to near embeddings of other classes.

    Args:
        new_head: Returns a head with new weights.
        seed: The run's seed, which fixes the order of the rows.
        neighbours: Nearest neighbours searched for such enemies, >= 1.
        epochs: Epochs of the new head, >= 1.
        lr: Its initial learning rate, > 0.

    Reference:
        Dablain et al., Efficient Augmentation for Imbalanced Deep Learning, ICDE 2023, arXiv:2207.06080.

    Differs from the paper: the authors' code assumes that the first neighbour is the embedding itself, which is wrong
    with duplicates, crashes on a class without enemies, and draws the neighbour before the one that its probabilities
    are of: often no enemy, at times the embedding itself. This is the paper's rule; its numbers are of that code.
    The training of the head: see ``none``.
    """

    name, make = "eos", staticmethod(eos)

    def __init__(
        self, new_head: Callable[[], Head], seed: int, *, neighbours: int = 10, epochs: int = 10, lr: float = 0.1
    ) -> None:
        super().__init__(new_head, seed, neighbours=neighbours, epochs=epochs, lr=lr)

from collections.abc import Callable

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.posthoc._oversample import Oversampled, smote


@POSTHOC.register("smote")
class NewHeadSmote(Oversampled):
    """A new head, trained on embeddings and points between neighbours of the same class.

    Args:
        new_head: Returns a head with new weights.
        seed: The run's seed, which fixes the order of the rows.
        neighbours: Nearest neighbours of the class to choose from, >= 1.
        epochs: Epochs of the new head, >= 1.
        lr: Its initial learning rate, > 0.

    Reference:
        Chawla et al., SMOTE, JAIR 16, 2002, arXiv:1106.1813; on embeddings Dablain et al., arXiv:2207.06080.

    Differs from the paper: bases are drawn with replacement instead of taken in turn. The training of the
    head: see ``none``.
    """

    name, make = "smote", staticmethod(smote)

    def __init__(
        self, new_head: Callable[[], Head], seed: int, *, neighbours: int = 10, epochs: int = 10, lr: float = 0.1
    ) -> None:
        super().__init__(new_head, seed, neighbours=neighbours, epochs=epochs, lr=lr)

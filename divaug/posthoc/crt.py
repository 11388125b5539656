from collections.abc import Callable

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.posthoc.none import NewHead


@POSTHOC.register("crt")
class RetrainedClassifier(NewHead):
    """cRT: a new head, trained on embeddings of which every class is drawn equally often.

    Args:
        new_head: Returns a head with new weights.
        seed: The run's seed, which fixes the order of the rows.
        epochs: Epochs of the new head, >= 1.
        lr: Its initial learning rate, > 0.

    Reference:
        Kang et al., Decoupling Representation and Classifier, ICLR 2020, arXiv:1910.09217, sec. 4.

    Differs from the paper: embeddings are those of the images as they are, extracted once, where the paper augments the
    images in every epoch; batches of 128, no weight decay.
    """

    balanced = True

    def __init__(self, new_head: Callable[[], Head], seed: int, *, epochs: int = 10, lr: float = 0.1) -> None:
        super().__init__(new_head, seed, epochs=epochs, lr=lr)

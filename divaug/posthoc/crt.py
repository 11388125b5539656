from collections.abc import Callable
from typing import Any

import numpy as np

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import train_head


@POSTHOC.register("crt")
class RetrainedClassifier:
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

    def __init__(self, new_head: Callable[[], Head], seed: int, *, epochs: int = 10, lr: float = 0.1) -> None:
        if epochs < 1:
            raise ValueError(f"epochs must be >= 1, got {epochs}")
        if lr <= 0:
            raise ValueError(f"lr must be > 0, got {lr}")
        self.new_head, self.seed, self.epochs, self.lr = new_head, seed, epochs, lr
        self.notes: list[str] = []

    def fit(self, embeddings: Embeddings, head: Head, rng: np.random.Generator) -> Head:
        """Return the new head."""
        new: Any = self.new_head()
        train_head(
            new, embeddings.features, embeddings.labels, epochs=self.epochs, lr=self.lr, seed=self.seed, balanced=True
        )
        return new

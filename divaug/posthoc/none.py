from collections.abc import Callable
from typing import Any

import numpy as np

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import train_head


@POSTHOC.register("none")
class NewHead:
    """The control: a new head, trained on the embeddings as they are.

    Args:
        new_head: Returns a head with new weights.
        seed: The run's seed, which fixes the order of the rows.
        epochs: Epochs of the new head, >= 1.
        lr: Its initial learning rate, > 0.

    Reference:
        Dablain et al., arXiv:2207.06080 (its control).

    Differs from the paper: no weight decay (2e-4 in the authors' code), a cosine learning rate. A head learns little in
    ten epochs from features of small norm, so compare heads of one network.
    """

    balanced = False  # classes are drawn by their sizes

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
            new, embeddings.features, embeddings.labels, epochs=self.epochs, lr=self.lr, seed=self.seed,
            balanced=self.balanced,
        )  # fmt: skip
        return new

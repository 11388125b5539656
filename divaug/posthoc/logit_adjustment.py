import numpy as np

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import linear_head, weights_of


@POSTHOC.register("logit_adjustment")
class LogitAdjustment:
    """The head as trained with tau * log pi taken from its logits, where pi are the classes' shares of its images.

    At tau 1 it is Buda's thresholding: probabilities divided by the class's prior.

    Args:
        tau: Strength; 0 leaves the head.

    Raises:
        ConfigError: The head is not linear.

    Reference:
        Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021, arXiv:2007.07314, sec. 4.1; Buda et al., 2018,
        arXiv:1710.05381.

    Differs from the paper: nothing.
    """

    def __init__(self, *, tau: float = 1.0) -> None:
        self.tau = tau
        self.notes: list[str] = []

    def fit(self, embeddings: Embeddings, head: Head, rng: np.random.Generator) -> Head:
        """Return the adjusted head."""
        weight, bias = weights_of(head, "logit_adjustment")
        counts = np.bincount(embeddings.labels, minlength=embeddings.num_classes)
        share = np.log(np.maximum(counts, 1) / counts.sum())  # a class without images: as if it had one
        return linear_head(weight, (bias - self.tau * share).astype(np.float32))

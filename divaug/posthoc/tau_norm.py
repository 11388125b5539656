import numpy as np
from jaxtyping import Float

from divaug.base.contracts import Head
from divaug.base.metrics import confusion_matrix, nanmean, recall
from divaug.config.registry import POSTHOC
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import linear_head, weights_of

GRID = tuple(round(0.1 * step, 1) for step in range(21))


@POSTHOC.register("tau_norm")
class TauNorm:
    """The weights of every class divided by their norm to the power of tau, without bias.

    Args:
        validation: Embeddings of the validation part, on which tau is chosen, or None.
        tau: >= 0; 0 leaves the weights. None: the one of 0, 0.1 to 2 with the best mean recall on the validation part,
            and 1 where there is none.

    Raises:
        ConfigError: The head is not linear.

    Reference:
        Kang et al., Decoupling Representation and Classifier, ICLR 2020, arXiv:1910.09217, sec. 4.

    Differs from the paper: nothing.
    """

    def __init__(self, validation: Embeddings | None, *, tau: float | None = None) -> None:
        if tau is not None and tau < 0:
            raise ValueError(f"tau must be >= 0, got {tau}")
        self.validation, self.tau = validation, tau
        self.notes: list[str] = []

    def fit(self, embeddings: Embeddings, head: Head, rng: np.random.Generator) -> Head:
        """Return the normalised head."""
        weight, _ = weights_of(head, "tau_norm")
        tau, held_out, self.notes = self.tau, self.validation, []
        if tau is None and held_out is None:
            tau = 1.0
            self.notes = ["tau_norm: tau 1, since the run has no validation part (--val-frac) to choose it on"]
        elif tau is None and held_out is not None:
            tau = max(GRID, key=lambda one: _mean_recall(held_out, _normalized(weight, one)))
            self.notes = [f"tau_norm: tau {tau:g}, chosen on the validation part"]
        return linear_head(_normalized(weight, 1.0 if tau is None else tau))


def _normalized(weight: Float[np.ndarray, "C D"], tau: float) -> Float[np.ndarray, "C D"]:
    norms = np.linalg.norm(weight.astype(np.float64), axis=1, keepdims=True)
    return (weight / np.maximum(norms, 1e-12) ** tau).astype(np.float32)


def _mean_recall(embeddings: Embeddings, weight: Float[np.ndarray, "C D"]) -> float:
    predictions = (embeddings.features @ weight.T).argmax(1)
    return nanmean(recall(confusion_matrix(embeddings.labels, predictions, len(weight))))

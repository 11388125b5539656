import numpy as np

from divaug.base.contracts import Head
from divaug.base.errors import ConfigError
from divaug.config.registry import POSTHOC
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import linear_head


@POSTHOC.register("linear_svm")
class LinearSVM:
    """A linear support vector machine on embeddings of length 1: CNN features off the shelf.

    It has no intercept, so that its prediction does not depend on an embedding's length and the head stays linear.

    Args:
        penalty: C, > 0: the smaller, the wider the margin.

    Raises:
        ConfigError: Fewer than two classes have images.

    Reference:
        Razavian et al., CNN Features off-the-shelf: an Astounding Baseline for Recognition, CVPRW 2014,
        arXiv:1403.6382.

    Differs from the paper: no intercept; one class against the rest with the squared hinge (liblinear).
    """

    def __init__(self, *, penalty: float = 1.0) -> None:
        if penalty <= 0:
            raise ValueError(f"penalty must be > 0, got {penalty}")
        self.penalty = penalty
        self.notes: list[str] = []

    def fit(self, embeddings: Embeddings, head: Head, rng: np.random.Generator) -> Head:
        """Return the machine as a head; a class without images is never predicted."""
        from sklearn.svm import LinearSVC

        if len(np.unique(embeddings.labels)) < 2:
            raise ConfigError("linear_svm needs images of two classes")
        lengths = np.linalg.norm(embeddings.features, axis=1, keepdims=True)
        machine = LinearSVC(C=self.penalty, fit_intercept=False, random_state=int(rng.integers(2**31)))
        machine.fit(embeddings.features / np.maximum(lengths, 1e-12), embeddings.labels)
        found = machine.coef_ if len(machine.classes_) > 2 else np.concatenate([-machine.coef_, machine.coef_])
        weight = np.zeros((embeddings.num_classes, embeddings.dimensions))
        bias = np.full(embeddings.num_classes, -1e30)
        weight[machine.classes_], bias[machine.classes_] = found, 0.0
        return linear_head(weight.astype(np.float32), bias.astype(np.float32))

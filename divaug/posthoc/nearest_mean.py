import numpy as np

from divaug.base.contracts import Head
from divaug.config.registry import POSTHOC
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import linear_head


@POSTHOC.register("nearest_mean")
class NearestMean:
    """Nearest class mean: the class whose mean embedding is the nearest, written as a linear head.

    |z - m|^2 is |z|^2 - 2 (m z - |m|^2 / 2), so the weights are the means and the bias is -|m|^2 / 2.

    Reference:
        Mensink et al., Distance-Based Image Classification, TPAMI 2013; for long tails Kang et al., ICLR 2020,
        arXiv:1910.09217, sec. 4.

    Differs from the paper: Kang et al. normalise (the cosine, or the Euclidean distance of embeddings of length 1, in
    their code centred before); here embeddings and means are as they are.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def fit(self, embeddings: Embeddings, head: Head, rng: np.random.Generator) -> Head:
        """Return the head; a class without images is never predicted."""
        counts = np.bincount(embeddings.labels, minlength=embeddings.num_classes)
        means = np.zeros((embeddings.num_classes, embeddings.dimensions))
        np.add.at(means, embeddings.labels, embeddings.features)
        means /= np.maximum(counts, 1)[:, None]
        bias = np.where(counts > 0, -0.5 * (means**2).sum(1), -1e30)
        return linear_head(means.astype(np.float32), bias.astype(np.float32))

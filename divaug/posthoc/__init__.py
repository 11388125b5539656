"""After training: a new head for a trained network, from the embeddings of its training images.

``fit(embeddings, head, rng)`` returns the new head; the one that is passed in stays as it is. What a reader must know
is in ``notes`` afterwards.

Example:
    >>> import numpy as np
    >>> from divaug.latent import Embeddings
    >>> from divaug.models import LinearHead
    >>> from divaug.posthoc import NearestMean
    >>> train = Embeddings(np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 0.0]]), np.array([0, 0, 1]), ("cat", "dog"))
    >>> head = NearestMean().fit(train, LinearHead(2, 2), np.random.default_rng(0))
    >>> head.weight.tolist(), head.bias.tolist()
    ([[1.0, 0.0], [9.0, 0.0]], [-0.5, -40.5])
"""

from divaug.config.source import lazy

__getattr__, __dir__ = lazy("divaug.posthoc", "POSTHOC")

"""What a measure shows where there is nothing to see: other seeds, other cuts, shuffled labels, untrained networks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from divaug.base.groups import rank_groups
from divaug.latent.embeddings import Embeddings


class Null(NamedTuple):
    """Values of a statistic where there is nothing to find: how many, their mean, and their 2.5 % and 97.5 % quantiles.

    Example:
        >>> from divaug.latent import Null
        >>> Null.of([2.0, 2.0, float("nan")])
        Null(n=2, mean=2.0, low=2.0, high=2.0)
    """

    n: int
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Null":
        """Summarise values; NaN ones are left out."""
        known = np.array([value for value in values if not np.isnan(value)])
        if not len(known):
            return cls(0, *[float("nan")] * 3)
        low, high = np.quantile(known, (0.025, 0.975))
        return cls(len(known), float(known.mean()), float(low), float(high))


def pairwise(bundles: Sequence[Embeddings], statistic: Callable[[Embeddings, Embeddings], float]) -> Null:
    """Return a comparison's null from bundles that differ only in their seed, or only in their data cut.

    Every unordered pair is compared. How much two identically trained networks differ is the yardstick for how far a
    method moved one.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, pairwise
        >>> bundles = [Embeddings(np.array([[x]]), np.array([0]), ("cat",)) for x in (1.0, 2.0, 4.0)]
        >>> null = pairwise(bundles, lambda a, b: float(np.abs(a.features - b.features).max()))
        >>> null.n, null.mean  # differences 1, 3 and 2
        (3, 2.0)
    """
    return Null.of([statistic(a, b) for a, b in combinations(bundles, 2)])


def shuffled_labels(embeddings: Embeddings, rng: np.random.Generator, classes: Sequence[int] = ()) -> Embeddings:
    """Return the bundle with the labels of some classes' images shuffled among them; class sizes stay.

    What a statistic still shows of a class afterwards is due to its size and to the network, not to what the class's
    images have in common.

    Args:
        embeddings: The images.
        rng: Shuffles the labels.
        classes: The classes; by default the tail tercile.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, shuffled_labels
        >>> labels, names = np.array([0, 0, 0, 1, 1, 2]), ("cat", "dog", "owl")
        >>> bundle = Embeddings(np.ones((6, 4)), labels, names)
        >>> shuffled = shuffled_labels(bundle, np.random.default_rng(0), classes=[0, 1])
        >>> shuffled.counts.tolist(), shuffled.labels[5:].tolist()
        ([3, 2, 1], [2])
    """
    chosen = np.array(classes or rank_groups(np.array(embeddings.class_counts or embeddings.counts))["tail"])
    rows = np.flatnonzero(np.isin(embeddings.labels, chosen))
    labels = embeddings.labels.copy()
    labels[rows] = rng.permutation(labels[rows])
    return replace(embeddings, labels=labels)


def random_head(embeddings: Embeddings, rng: np.random.Generator) -> Embeddings:
    """Return the bundle with an untrained head: weights redrawn at the old ones' scale, and no bias.

    With the features of an untrained network (from ``extract``), this is the random-initialisation null, for which
    "a class uses few features" holds trivially.

    Raises:
        ValueError: There is no head.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, random_head
        >>> fe, weight = np.array([[3.0, 1.0], [2.0, 4.0], [0.0, 5.0]]), np.eye(2)
        >>> bundle = Embeddings(fe, np.array([0, 0, 1]), ("cat", "dog"), weight=weight, logits=fe @ weight.T)
        >>> untrained = random_head(bundle, np.random.default_rng(0))
        >>> bool(np.allclose(untrained.logits, fe @ untrained.weight.T))
        True
    """
    if embeddings.weight is None:
        raise ValueError("an encoder has no head to draw anew")
    weight = rng.normal(0, embeddings.weight.std(), embeddings.weight.shape)
    bare = replace(embeddings, weight=weight, bias=None)
    features, factors = bare.factors(np.arange(len(bare.labels)))
    return replace(bare, logits=bare.scale * features @ factors.T)

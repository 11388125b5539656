"""What a measure shows where there is nothing to see: other seeds, other cuts, shuffled labels, untrained networks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from divaug.base.groups import rank_groups
from divaug.latent.embeddings import Embeddings


class Null(NamedTuple):
    """Values of a statistic where nothing is to be found: how many, their mean, and 2.5 % and 97.5 % quantiles."""

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
    """Return a comparison's null from bundles that differ in nothing but their seed, or their data cut.

    Every unordered pair is compared. How far two networks differ that were trained alike is the yardstick for how far
    a method moved one.
    """
    return Null.of([statistic(a, b) for a, b in combinations(bundles, 2)])


def shuffled_labels(embeddings: Embeddings, rng: np.random.Generator, classes: Sequence[int] = ()) -> Embeddings:
    """Return the bundle with labels dealt out at random among pictures of some classes, sizes kept.

    Args:
        embeddings: The pictures.
        rng: Deals.
        classes: Among which classes; by default the tail tercile. What a statistic still shows of a class afterwards
            it owes to its size and to the network, not to what the class's pictures have in common.
    """
    chosen = np.array(classes or rank_groups(np.array(embeddings.class_counts or embeddings.counts))["tail"])
    rows = np.flatnonzero(np.isin(embeddings.labels, chosen))
    labels = embeddings.labels.copy()
    labels[rows] = rng.permutation(labels[rows])
    return replace(embeddings, labels=labels)


def random_head(embeddings: Embeddings, rng: np.random.Generator) -> Embeddings:
    """Return the bundle with an untrained head: weights and bias drawn anew at the old weights' scale.

    With features of an untrained network (``extract`` of one that was never trained) this is the random-init null,
    for which "a class uses few features" holds trivially.

    Raises:
        ValueError: There is no head.
    """
    if embeddings.weight is None:
        raise ValueError("an encoder has no head to draw anew")
    weight = rng.normal(0, embeddings.weight.std(), embeddings.weight.shape)
    bare = replace(embeddings, weight=weight, bias=None)
    features, factors = bare.factors(np.arange(len(bare.labels)))
    return replace(bare, logits=bare.scale * features @ factors.T)

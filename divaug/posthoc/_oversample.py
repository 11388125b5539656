"""Over-sampling a table of embeddings until every class is as large as the largest, and a new head on them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from divaug.base.contracts import Head
from divaug.latent.embeddings import Embeddings
from divaug.posthoc._head import train_head

Features = Float[np.ndarray, "N D"]
Labels = Int[np.ndarray, "N"]
# synthetic embeddings, their classes, and the row that each was made from
Made = tuple[Float[np.ndarray, "M D"], Int[np.ndarray, "M"], Int[np.ndarray, "M"]]


def ros(features: Features, labels: Labels, *, neighbours: int, rng: np.random.Generator) -> Made:
    """Return copies of embeddings of the smaller classes, drawn with replacement.

    Args:
        features: FE, ``(N, D)``.
        labels: Their classes.
        neighbours: Not used.
        rng: Generator of the draws.
    """

    def make(members: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        base = rng.choice(members, size)
        return features[base], base

    return _for_each_class(labels, features, make)


def smote(features: Features, labels: Labels, *, neighbours: int, rng: np.random.Generator) -> Made:
    """Return points between an embedding and one of its nearest neighbours of the same class.

    A class with one embedding gets copies of it. Duplicates are neighbours of one another: an embedding is kept out
    of its own neighbours by position, not by a distance of zero.

    Args:
        features: FE, ``(N, D)``.
        labels: Their classes.
        neighbours: Nearest neighbours to choose from, >= 1.
        rng: Generator of the draws.

    Reference:
        Chawla et al., SMOTE, JAIR 16, 2002, arXiv:1106.1813.

    Differs from the paper: bases are drawn with replacement instead of taken in turn.
    """

    def make(members: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        base = rng.choice(members, size)
        if len(members) == 1:
            return features[base], base
        nearest = members[_nearest(features[members], min(neighbours, len(members) - 1))]
        place = {int(m): i for i, m in enumerate(members)}
        rows = nearest[[place[int(b)] for b in base]]
        other = rows[np.arange(size), rng.integers(rows.shape[1], size=size)]
        return features[base] + rng.random((size, 1)) * (features[other] - features[base]), base

    return _for_each_class(labels, features, make)


def eos(features: Features, labels: Labels, *, neighbours: int, rng: np.random.Generator) -> Made:
    """Return points between an embedding and one of the embeddings of other classes among its neighbours.

    Bases are the members of a class that have such an enemy among their nearest neighbours in the whole table; the
    enemy is drawn from these, and the point lies anywhere on the segment. A class without enemies gets no
    points. In a network that fits its training images few members have an enemy, and all points of a class start from
    these; check their number.

    Args:
        features: FE, ``(N, D)``.
        labels: Their classes.
        neighbours: Nearest neighbours searched for enemies, >= 1.
        rng: Generator of the draws.

    Reference:
        Dablain et al., Efficient Augmentation for Imbalanced Deep Learning, ICDE 2023, arXiv:2207.06080.

    Differs from the paper: the authors' code assumes that the first neighbour is the embedding itself, which is wrong
    with duplicates, crashes on a class without enemies, and draws the neighbour before the one that its probabilities
    are of: often no enemy, at times the embedding itself. This is the paper's rule; its numbers are of that code.
    """
    nearest = _nearest(features, min(neighbours, len(features) - 1))
    enemy = labels[nearest] != labels[:, None]

    def make(members: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        bases = members[enemy[members].any(1)]
        if not len(bases):
            return features[:0], bases
        base = rng.choice(bases, size)
        wanted = (rng.random(size) * enemy[base].sum(1)).astype(np.int64) + 1
        column = ((enemy[base].cumsum(1) == wanted[:, None]) & enemy[base]).argmax(1)
        other = nearest[base, column]
        return features[base] + rng.random((size, 1)) * (features[other] - features[base]), base

    return _for_each_class(labels, features, make)


class Oversampled:
    """A new head, trained on over-sampled embeddings; base of the components that differ in what they make.

    Args:
        new_head: Returns a head with new weights.
        seed: The run's seed, which fixes the order of the rows.
        neighbours: Nearest neighbours.
        epochs: Epochs of the new head, >= 1.
        lr: Its initial learning rate, > 0.
    """

    name = ""
    make: Callable[..., Made]

    def __init__(
        self, new_head: Callable[[], Head], seed: int, *, neighbours: int = 10, epochs: int = 10, lr: float = 0.1
    ) -> None:
        for key, value in (("neighbours", neighbours), ("epochs", epochs)):
            if value < 1:
                raise ValueError(f"{key} must be >= 1, got {value}")
        if lr <= 0:
            raise ValueError(f"lr must be > 0, got {lr}")
        self.new_head, self.seed, self.neighbours, self.epochs, self.lr = new_head, seed, neighbours, epochs, lr
        self.notes: list[str] = []
        self.synthetic, self.fewest_bases = 0, None

    def fit(self, embeddings: Embeddings, head: Head, rng: np.random.Generator) -> Head:
        """Return a head with new weights, trained on the embeddings and on those made from them."""
        features, labels, names = embeddings.features, embeddings.labels, embeddings.class_names
        made, classes, base = type(self).make(features, labels, neighbours=self.neighbours, rng=rng)
        counts = np.bincount(labels, minlength=len(names))
        bases = {
            int(c): len(np.unique(base[classes == c])) for c in np.flatnonzero((counts > 0) & (counts < counts.max()))
        }
        self.synthetic, self.fewest_bases = len(classes), min(bases.values(), default=None)
        self.notes = [
            f"{self.name}: class {names[c]!r} got no synthetic embeddings: none of its {counts[c]} images has "
            f"one of another class among its {self.neighbours} nearest neighbours; more --neighbours may find some"
            for c, number in bases.items() if not number
        ]  # fmt: skip
        new: Any = self.new_head()
        rows, ids = np.concatenate([features, made]), np.concatenate([labels, classes])
        train_head(new, rows, ids, epochs=self.epochs, lr=self.lr, seed=self.seed)
        return new


def _for_each_class(
    labels: Labels, features: Features, make: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
) -> Made:
    """Collect what ``make(members, n_max - n)`` returns for every class that is smaller than the largest."""
    classes, counts = np.unique(labels, return_counts=True)
    made, of_class, bases = [features[:0]], [labels[:0]], [np.arange(0)]
    for c, count in zip(classes, counts, strict=True):
        if count < counts.max():
            rows, base = make(np.flatnonzero(labels == c), int(counts.max() - count))
            made.append(rows.astype(features.dtype))
            of_class.append(np.full(len(rows), c, dtype=labels.dtype))
            bases.append(base)
    return np.concatenate(made), np.concatenate(of_class), np.concatenate(bases)


def _nearest(features: Features, k: int) -> Int[np.ndarray, "N K"]:
    """Return every row's k nearest other rows, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=k + 1).fit(features).kneighbors(features, return_distance=False)
    own = found == np.arange(len(features))[:, None]
    own[~own.any(1), -1] = True  # more duplicates than neighbours: drop any of them
    return found[~own].reshape(len(features), k)

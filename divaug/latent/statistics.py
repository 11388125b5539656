"""The statistics of one class's features: frequency, number, magnitude, identity, and how concentrated they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from divaug.latent.embeddings import Embeddings
from divaug.latent.instances import adaptive_top_k, descending_order, fixed_top_k

ADAPTIVE = "adaptive"
_AT_ONCE = 2**20  # contributions that are sorted together


def effective_number(frequency: Float[np.ndarray, "*C D"]) -> Float[np.ndarray, "*C"]:
    """Return exp(entropy) of the features' shares of use: 1 to D, NaN where none is used.

    Args:
        frequency: Counts or frequencies >= 0.

    Reference:
        Hill, Diversity and evenness, Ecology 54, 1973 (order 1).

    Example:
        >>> import numpy as np
        >>> from divaug.latent import effective_number
        >>> effective_number(np.array([[5.0, 5.0, 0.0], [9.0, 0.0, 0.0]])).round(3).tolist()
        [2.0, 1.0]
    """
    total = frequency.sum(-1, keepdims=True)
    share = np.divide(frequency, total, out=np.zeros(frequency.shape), where=total > 0)
    logs = np.log(share, out=np.zeros(frequency.shape), where=share > 0)
    return np.where(total[..., 0] > 0, np.exp(-(share * logs).sum(-1)), np.nan)


def participation_ratio(values: Float[np.ndarray, "*C D"]) -> Float[np.ndarray, "*C"]:
    """Return (sum v)^2 / sum v^2 over positive values: 1 (one has it all) to D (all equal), NaN where none is > 0.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import participation_ratio
        >>> float(participation_ratio(np.array([3.0, 1.0, -2.0])))  # 4 ** 2 / (9 + 1)
        1.6
    """
    positive = np.maximum(values, 0.0)
    squares = (positive**2).sum(-1)
    ratio = np.divide(positive.sum(-1) ** 2, squares, out=np.full(squares.shape, np.nan), where=squares > 0)
    return np.asarray(ratio)


def class_top_k(mean_ce: Float[np.ndarray, "*C D"], k: int) -> Int[np.ndarray, "*C K"]:
    """Return each class's top-K: its k features of largest mean CE (or FE), ties going to the lower index.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import class_top_k
        >>> class_top_k(np.array([0.5, 2.0, -1.0, 1.0]), 2).tolist()
        [1, 3]
    """
    return np.argsort(-mean_ce, axis=-1, kind="stable")[..., :k]


def class_magnitude(mean_ce: Float[np.ndarray, "*C D"], k: int) -> Float[np.ndarray, "*C"]:
    """Return the mean CE over each class's top-K features.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import class_magnitude
        >>> class_magnitude(np.array([[0.5, 2.0, -1.0, 1.0], [0.0, 0.0, 4.0, 0.0]]), 2).tolist()
        [1.5, 2.0]
    """
    return np.take_along_axis(mean_ce, class_top_k(mean_ce, k), axis=-1).mean(-1)


def top_share(mean_ce: Float[np.ndarray, "D"], share: float = 0.1, of: str = "positive") -> float:
    """Return the share of a class's mean CE that its largest features carry.

    Args:
        mean_ce: Mean CE of the class.
        share: Share of the features that count as largest, rounded down to a number of at least one.
        of: ``positive``: relative to the sum of positive CE, 0 to 1. ``all``: relative to the sum of all, as the
            authors do, which may exceed 1 or be negative. NaN where that sum is 0.

    Reference:
        Dablain et al., arXiv:2407.10165 (``img_CE_top``).

    Example:
        >>> import numpy as np
        >>> from divaug.latent import top_share
        >>> mean_ce = np.array([4.0, 1.0, -1.0, 0.0])
        >>> top_share(mean_ce, share=0.25), top_share(mean_ce, share=0.25, of="all")
        (0.8, 1.0)
    """
    largest = np.sort(mean_ce)[::-1][: max(1, int(share * len(mean_ce)))].sum()
    total = np.maximum(mean_ce, 0).sum() if of == "positive" else mean_ce.sum()
    return float(largest / total) if total else float("nan")


def density_ratio(
    reference: Float[np.ndarray, "n D"], adversary: Float[np.ndarray, "m D"], k: int, *, per_image: bool = True
) -> Float[np.ndarray, "K"]:
    """Return how often an adversary class uses a reference class's top-K FE, relative to the class itself.

    For each of the reference class's k features of largest mean FE: the number of the adversary's images whose own
    top-K holds it, divided by that of the reference class. NaN where the reference class never uses it.

    Args:
        reference: FE of the reference class.
        adversary: FE of the other class.
        k: K of the top-K sets.
        per_image: Divide by the sizes of the classes; without this, a class of 5000 beats one of 50 by construction.

    Differs from the paper: size-normalised by default (its "FE density" is not); 0 / 0 is NaN; zeros belong to no set.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import density_ratio
        >>> reference, adversary = np.array([[3.0, 1.0], [2.0, 1.0]]), np.array([[3.0, 1.0], [1.0, 2.0]])
        >>> density_ratio(reference, adversary, k=1).tolist()  # feature 0: one adversary of two uses it
        [0.5]
    """
    top = class_top_k(reference.mean(0), k)
    ours = fixed_top_k(reference, k)[:, top].sum(0).astype(np.float64)
    theirs = fixed_top_k(adversary, k)[:, top].sum(0).astype(np.float64)
    if per_image:
        ours, theirs = ours / len(reference), theirs / max(1, len(adversary))
    return np.asarray(np.divide(theirs, ours, out=np.full(k, np.nan), where=ours > 0))


@dataclass(frozen=True)
class ClassStatistics:
    """What the images of one instance group of a class say about its features.

    Attributes:
        n: Images.
        frequency: phi, the share of images whose top-K set holds each feature, ``(D,)``; NaN without images.
        magnitude: m, the mean signed CE over all images, ``(D,)``; NaN without images.
        number: Distinct features in the images' sets; grows with n.
        per_image: Mean size of an image's set (its sum of frequencies).
    """

    n: int
    frequency: np.ndarray
    magnitude: np.ndarray
    number: int
    per_image: float

    def top(self, k: int = 10) -> Int[np.ndarray, "K"]:
        """Return the class's top-K, its identity: the k features of largest magnitude; empty without images."""
        return class_top_k(self.magnitude, k) if self.n else np.empty(0, dtype=np.int64)

    def number_above(self, tau: float) -> int:
        """Return the number of features used by more than a share tau of the images."""
        return int((self.frequency > tau).sum())

    @property
    def effective(self) -> float:
        """Effective number of features by frequency of use."""
        return float(effective_number(np.nan_to_num(self.frequency)))

    @property
    def participation(self) -> float:
        """Participation ratio of positive magnitudes."""
        return float(participation_ratio(np.nan_to_num(self.magnitude)))

    @property
    def frequency_magnitude_correlation(self) -> float:
        """Pearson correlation over features of frequency and magnitude; NaN where one of them is constant."""
        if not self.n or np.ptp(self.frequency) == 0 or np.ptp(self.magnitude) == 0:
            return float("nan")
        return float(np.corrcoef(self.frequency, self.magnitude)[0, 1])


def instance_sets(
    embeddings: Embeddings,
    rows: Int[np.ndarray, "n"],
    contributions: Float[np.ndarray, "n D"],
    k: int | str,
    ce_class: str | int = "true",
    order: Int[np.ndarray, "n D"] | None = None,
) -> Bool[np.ndarray, "n D"]:
    """Return the top-K sets of images, of fixed K or ``adaptive`` (which needs a head).

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, instance_sets
        >>> fe, labels = np.array([[3.0, 1.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 5.0]]), np.array([0, 0, 1])
        >>> bundle = Embeddings(fe, labels, ("cat", "dog"))
        >>> rows = bundle.rows(0)
        >>> instance_sets(bundle, rows, bundle.contributions(rows), 1).astype(int).tolist()
        [[1, 0, 0], [0, 1, 0]]
    """
    if isinstance(k, int):
        return fixed_top_k(contributions, k, order)
    if k != ADAPTIVE or not embeddings.has_head:
        raise ValueError(f"k must be a number, or 'adaptive' where there is a head, got {k!r}")
    classes = embeddings.classes_of(rows, ce_class)
    bias = np.zeros(len(rows)) if embeddings.bias is None else embeddings.bias[classes].astype(np.float64)
    return adaptive_top_k(contributions, bias, embeddings.rivals(rows, ce_class), embeddings.scale, order)


def contributions_and_sets(
    embeddings: Embeddings, rows: np.ndarray, ks: Sequence[int | str], ce_class: str | int
) -> tuple[np.ndarray, dict[int | str, np.ndarray]]:
    """Return contributions and the sets at every K, with one sort for all K.

    A sort needs several times the memory of what is sorted, so it takes some images at a time: where a network calls
    most images one class, these are most of a data set.
    """
    values = embeddings.contributions(rows, ce_class)
    sets: dict[int | str, np.ndarray] = {k: np.empty(values.shape, dtype=bool) for k in ks}
    step = max(1, _AT_ONCE // max(1, values.shape[1]))
    for part in (slice(start, start + step) for start in range(0, max(1, len(rows)), step)):
        order = descending_order(values[part])
        for k in ks:
            sets[k][part] = instance_sets(embeddings, rows[part], values[part], k, ce_class, order)
    return values, sets


def class_statistics(
    embeddings: Embeddings,
    c: int,
    *,
    k: int | str = 10,
    group: str = "TP",
    ce_class: str | int = "true",
) -> ClassStatistics:
    """Measure one class's features.

    Args:
        embeddings: The images.
        c: Class.
        k: K of the images' top-K sets, or ``adaptive``: as many as the prediction needs.
        group: ``member``, ``TP``, ``FN`` or ``FP``; see ``Embeddings.rows``. The authors' published files are of TP.
        ce_class: The class whose weights are used: ``true``, ``pred`` or a class index; for ``FP``, ``true`` is the
            images' own label.

    Reference:
        Dablain et al., arXiv:2210.09465 and arXiv:2407.10165.

    Differs from the paper: only CE > 0 enter a set; sets of errors use the bias of the class that is measured.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, class_statistics
        >>> fe, labels = np.array([[3.0, 1.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 5.0]]), np.array([0, 0, 1])
        >>> bundle = Embeddings(fe, labels, ("cat", "dog"))
        >>> found = class_statistics(bundle, 0, k=1, group="member")
        >>> found.number, found.frequency.tolist(), found.magnitude.tolist()
        (2, [0.5, 0.5, 0.0], [2.5, 2.5, 0.0])
    """
    rows = embeddings.rows(c, group)
    contributions = embeddings.contributions(rows, ce_class)
    return statistics_of(contributions, instance_sets(embeddings, rows, contributions, k, ce_class))


def statistics_of(contributions: Float[np.ndarray, "n D"], sets: Bool[np.ndarray, "n D"]) -> ClassStatistics:
    """Return the statistics of images with these contributions and these top-K sets.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import fixed_top_k, statistics_of
        >>> ce = np.array([[3.0, 1.0, 0.0], [2.0, 4.0, 0.0]])
        >>> found = statistics_of(ce, fixed_top_k(ce, 1))
        >>> found.n, found.number, found.per_image
        (2, 2, 1.0)
    """
    n, dimensions = contributions.shape
    if n == 0:
        nothing = np.full(dimensions, np.nan)
        return ClassStatistics(0, nothing, nothing, 0, float("nan"))
    counts = sets.sum(0)
    return ClassStatistics(n, counts / n, contributions.mean(0), int((counts > 0).sum()), float(counts.sum() / n))

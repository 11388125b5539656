"""Choosing which images of a class to train on, so that one thing moves and the others stay.

Kinds are label-free clusters within a class: half of them is half the class's breadth. Spread is the unbiased Vendi
score, moved by swaps within matched cells. Everything works on features of one class, one row per image of its pool.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from divaug.latent.diversity import unit_rows

MASS = 0.45, 0.55  # of the pool: half of the kinds should be half of the images
_TRIES = 10_000


def joint_rows(
    spaces: Sequence[Float[np.ndarray, "N _"]], means: Sequence[Float[np.ndarray, "_"]] | None = None
) -> Float[np.ndarray, "N E"]:
    """Return the features of one class in a joint space: the cosine of two rows is the mean of the spaces' cosines.

    In each space the class's mean is subtracted and the rows are scaled to length one.

    Args:
        spaces: The class's features in each space.
        means: The class's mean in each space; by default that of the rows.

    Example:
        >>> import numpy as np
        >>> from divaug.study.select import joint_rows
        >>> rows = joint_rows([np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[1.0], [3.0]])])
        >>> float((rows[0] @ rows[1]).round(6))  # opposite in both spaces
        -1.0
    """
    means = [space.mean(0) for space in spaces] if means is None else means
    units = [unit_rows(space - mean) for space, mean in zip(spaces, means, strict=True)]
    return np.concatenate(units, axis=1) / np.sqrt(len(spaces))


class Kinds:
    """The kinds of a class's images: k-means clusters of a pool, without labels.

    Args:
        features: The pool in the joint space, one row per image.
        count: Number of kinds G, at most the number of images.
        rng: Draws the starts.

    Attributes:
        of: The kind of every image of the pool, 0 to G - 1.

    Raises:
        ValueError: There are fewer images than kinds.

    Example:
        >>> import numpy as np
        >>> from divaug.study.select import Kinds
        >>> kinds = Kinds(np.array([[0.0], [0.1], [5.0], [5.1]]), 2, np.random.default_rng(0))
        >>> bool(kinds.of[0] == kinds.of[1] != kinds.of[2]), kinds.nearest(np.array([[4.0]])).tolist() == [kinds.of[3]]
        (True, True)
    """

    def __init__(self, features: Float[np.ndarray, "N E"], count: int, rng: np.random.Generator) -> None:
        from sklearn.cluster import KMeans

        if not 1 <= count <= len(features):
            raise ValueError(f"{len(features)} images cannot have {count} kinds")
        fitted: Any = KMeans(count, n_init=4, random_state=int(rng.integers(2**31)))  # pyright: ignore
        fitted.fit(features)
        self.centres = fitted.cluster_centers_
        self.of = fitted.labels_.astype(np.int64)

    def nearest(self, features: Float[np.ndarray, "M E"]) -> Int[np.ndarray, "M"]:
        """Return the kind whose centre is nearest to each row; ties go to the lowest."""
        distances = (features**2).sum(1)[:, None] - 2 * features @ self.centres.T + (self.centres**2).sum(1)
        return distances.argmin(1)


def half_of_kinds(of: Int[np.ndarray, "N"], count: int, rng: np.random.Generator) -> Int[np.ndarray, "H"]:
    """Return a random half of the kinds that holds nearly half of the images (45 to 55 %), ascending.

    Half of the kinds at random may hold a third or two thirds of the images; halves are drawn until one fits. If none
    does in 10,000 draws, the one that came nearest to half of the images is returned.

    Args:
        of: Kind of every image.
        count: Number of kinds G, even.
        rng: Draws the halves.

    Raises:
        ValueError: G is odd.
    """
    if count % 2:
        raise ValueError(f"{count} kinds have no half")
    sizes = np.bincount(of, minlength=count)
    best, distance = np.arange(count // 2), np.inf
    for _ in range(_TRIES):
        kept = np.sort(rng.choice(count, count // 2, replace=False))
        share = sizes[kept].sum() / len(of)
        if MASS[0] <= share <= MASS[1]:
            return kept
        if abs(share - 0.5) < distance:
            best, distance = kept, abs(share - 0.5)
    return best


def matched_cells(columns: Sequence[Float[np.ndarray, "N"]], parts: int) -> Int[np.ndarray, "N"]:
    """Return the cell of every image: quantiles of the first column, within them quantiles of the second, and so on.

    Args:
        columns: What is to be matched (radius, probe margin); none puts all images in one cell.
        parts: Quantiles of each column.
    """
    cells = np.zeros(len(columns[0]) if columns else 0, dtype=np.int64)
    for column in columns:
        inner = np.zeros(len(cells), dtype=np.int64)
        for cell in np.unique(cells):
            rows = cells == cell
            edges = np.quantile(column[rows], np.linspace(0, 1, parts + 1)[1:-1])
            inner[rows] = np.searchsorted(edges, column[rows])
        cells = cells * parts + inner
    return cells


def stratified(cells: Int[np.ndarray, "N"], n: int, rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """Draw n images without replacement, as evenly over the cells as they allow.

    Raises:
        ValueError: There are fewer than n images.
    """
    if not 0 <= n <= len(cells):
        raise ValueError(f"cannot draw {n} of {len(cells)} images")
    names = rng.permutation(np.unique(cells))
    queues = [rng.permutation(np.flatnonzero(cells == name)).tolist() for name in names]
    drawn: list[int] = []
    while len(drawn) < n:  # one from each cell in turn; an empty cell is passed over
        for queue in queues:
            if queue and len(drawn) < n:
                drawn.append(queue.pop())
    return np.array(drawn, dtype=np.int64)


def swap_within_cells(
    pairs: Float[np.ndarray, "N N"],
    single: Float[np.ndarray, "N"],
    cells: Int[np.ndarray, "N"],
    n: int,
    rng: np.random.Generator,
    *,
    rounds: int = 4,
) -> Int[np.ndarray, "n"]:
    """Choose n images that make a sum over them small, by swaps within cells; the numbers in the cells stay.

    The sum is of ``pairs`` over ordered pairs of different chosen images, and of ``single`` over chosen images. From a
    stratified draw, each image in turn is exchanged for the unused image of its cell that lowers the sum most; it ends
    when a round changes nothing, and after ``rounds`` in any case.

    Args:
        pairs: Symmetric; its diagonal is not used.
        single: A term of each image.
        cells: See ``matched_cells``.
        n: Number of images.
        rng: Draws the start and the order.
        rounds: At most so many rounds.
    """
    chosen = stratified(cells, n, rng)
    free: np.ndarray = np.ones(len(cells), dtype=bool)
    free[chosen] = False
    off = pairs - np.diag(np.diag(pairs))
    with_chosen = off[:, chosen].sum(1)
    for _ in range(rounds):
        changed = False
        for place in rng.permutation(n):
            old = chosen[place]
            candidates = np.flatnonzero(free & (cells == cells[old]))
            if not len(candidates):
                continue
            costs = 2 * (with_chosen[candidates] - off[candidates, old]) + single[candidates]
            best = int(costs.argmin())
            if costs[best] < 2 * with_chosen[old] + single[old] - 1e-9:
                new = candidates[best]
                with_chosen += off[:, new] - off[:, old]
                free[old], free[new], chosen[place], changed = True, False, new, True
        if not changed:
            break
    return chosen


def spread(
    features: Float[np.ndarray, "N E"],
    cells: Int[np.ndarray, "N"],
    n: int,
    direction: int,
    rng: np.random.Generator,
    *,
    hold_mean: float = 1.0,
) -> Int[np.ndarray, "n"]:
    """Choose n images of low or high unbiased Vendi score, by swaps within matched cells.

    The sum of squared cosines over pairs is made large or small, with a penalty on the shift of the mean,
    ``hold_mean`` x |sum of rows|^2.

    Args:
        features: The pool in the joint space (``joint_rows``).
        cells: See ``matched_cells``; what defines them is matched exactly, up to their width.
        n: Number of images.
        direction: 1 raises the score, -1 lowers it.
        rng: Draws the start and the order.
        hold_mean: Weight of the penalty, >= 0.
    """
    cosines = features @ features.T
    return swap_within_cells(direction * cosines**2 + hold_mean * cosines, hold_mean * np.diag(cosines), cells, n, rng)


def herding(
    features: Float[np.ndarray, "N E"], cells: Int[np.ndarray, "N"], n: int, rng: np.random.Generator
) -> Int[np.ndarray, "n"]:
    """Choose n images that represent the pool: small maximum mean discrepancy, by swaps within matched cells.

    The kernel is Gaussian, its squared width half the median squared distance of the pool.

    Reference:
        Chen, Welling and Smola, Super-Samples from Kernel Herding, UAI 2010, arXiv:1203.3472.

    Differs from the paper: swaps instead of greedy additions, so that the cells keep their numbers.
    """
    squares = (features**2).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0)
    kernel = np.exp(-2 * distances / np.median(distances[distances > 0]))
    return swap_within_cells(kernel / n**2, np.diag(kernel) / n**2 - 2 * kernel.mean(1) / n, cells, n, rng)


def k_centre(features: Float[np.ndarray, "N E"], n: int, rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """Choose n images, each the farthest from those before it; it picks outliers, so it is no diversity contrast.

    Reference:
        Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, 1985.
    """
    chosen = [int(rng.integers(len(features)))]
    distances = ((features - features[chosen[0]]) ** 2).sum(1)
    while len(chosen) < n:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, ((features - features[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen, dtype=np.int64)

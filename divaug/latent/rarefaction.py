"""Species richness of top-K sets: at a common sample size, the completeness of a sample, and of augmented views."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

SATURATED = 0.9


def rarefied_number(incidence: Int[np.ndarray, "*C D"], n: Int[np.ndarray, "*C"], m: int) -> Float[np.ndarray, "*C"]:
    """Return the expected number of distinct features in the top-K sets of m images drawn without replacement.

    It is the sum over features of 1 - C(n - f, m) / C(n, m), exactly. The raw number of distinct features grows with n
    and then saturates; this one can be compared between classes of different sizes. Its ceiling is min(D, m * K).

    Args:
        incidence: f, the number of images whose top-K set holds each feature, 0 <= f <= n.
        n: Images counted.
        m: Images drawn, >= 1.

    Returns:
        The number, NaN where n < m.

    Raises:
        ValueError: m < 1, or a feature counted more often than there are images.

    Reference:
        Hurlbert, The nonconcept of species diversity, Ecology 52, 1971; incidence form of Chao and Jost 2012.

    Differs from the paper: nothing.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import rarefied_number
        >>> incidence = np.array([2, 1, 1])  # two images: one feature in both sets, two in one set each
        >>> [round(float(rarefied_number(incidence, np.array(2), m)), 3) for m in (1, 2)]
        [2.0, 3.0]
    """
    if m < 1:
        raise ValueError(f"m must be >= 1, got {m}")
    total = np.asarray(n, dtype=np.float64)[..., None]
    found = np.asarray(incidence, dtype=np.float64)
    if (found > total).any():
        raise ValueError("a feature is counted more often than there are images")
    # C(n - f, m) / C(n, m) is the product over j < m of 1 - f / (n - j); logs of gamma functions would cancel.
    log_missed = np.zeros(np.broadcast_shapes(found.shape, total.shape))
    with np.errstate(divide="ignore"):  # log 0: the feature cannot be missed
        for j in range(m):
            log_missed += np.log1p(-np.minimum(found / np.maximum(total - j, 1), 1))
    return np.where(total[..., 0] >= m, -np.expm1(log_missed).sum(-1), np.nan)


def ceiling(dimensions: int, m: int, k: int) -> int:
    """Return the largest value that a rarefied number can take: min(D, m * K).

    Example:
        >>> from divaug.latent import ceiling
        >>> ceiling(64, 5, 10), ceiling(64, 20, 10)
        (50, 64)
    """
    return min(dimensions, m * k)


def rarefaction_curve(
    incidence: Int[np.ndarray, "D"], n: int, points: int = 40
) -> tuple[Int[np.ndarray, "p"], Float[np.ndarray, "p"]]:
    """Return at most ``points`` sample sizes m from 1 to n, on a logarithmic scale, and the rarefied number at each.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import rarefaction_curve
        >>> sizes, numbers = rarefaction_curve(np.array([2, 1, 1]), 2)
        >>> sizes.tolist(), numbers.round(3).tolist()
        ([1, 2], [2.0, 3.0])
    """
    sizes = np.unique(np.geomspace(1, n, min(points, n)).round().astype(np.int64)) if n else np.empty(0, np.int64)
    found = np.asarray(incidence, dtype=np.float64)
    # Whole curves may reach m in the thousands: logs of gamma functions, good to 1e-9 at these sizes.
    missed = n - found >= sizes[:, None]
    logs = _log_choose(np.maximum(n - found, sizes[:, None]), sizes[:, None]) - _log_choose(n, sizes[:, None])
    return sizes, (1 - np.where(missed, np.exp(logs), 0.0)).sum(1)


def _log_choose(n: np.ndarray | int, m: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln  # half a second, and rows need the constants of this module only

    return gammaln(np.add(n, 1.0)) - gammaln(m + 1.0) - gammaln(np.subtract(n, m) + 1.0)


def sample_coverage(incidence: Int[np.ndarray, "D"], n: int) -> float:
    """Return the estimated completeness of a sample: the share of all feature uses that fall on features seen in it.

    It is 1 - f1/U * (n-1) f1 / ((n-1) f1 + 2 f2), where U counts all incidences, and f1 and f2 the features used once
    and twice. NaN without incidences.

    Reference:
        Chao and Jost, Coverage-based rarefaction and extrapolation, Ecology 93, 2012 (incidence form: Chao et al.,
        Ecological Monographs 84, 2014).

    Differs from the paper: nothing; where no feature is used twice, its bias-corrected form is used.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import sample_coverage
        >>> round(sample_coverage(np.array([2, 2, 1]), 2), 3)  # 1 - 1/5 * 1 / (1 + 4)
        0.96
    """
    uses, once, twice = int(incidence.sum()), int((incidence == 1).sum()), int((incidence == 2).sum())
    if uses == 0:
        return float("nan")
    if once == 0 or n < 2:
        return 1.0 if once == 0 else 0.0
    if twice:
        unseen = (n - 1) * once / ((n - 1) * once + 2 * twice)
    else:
        unseen = (n - 1) * (once - 1) / ((n - 1) * (once - 1) + 2)
    return 1 - once / uses * unseen


def chao2(incidence: Int[np.ndarray, "D"], n: int) -> float:
    """Return Chao's lower bound for the number of features that a class uses at all, seen or not.

    It is observed + (n-1)/n * f1^2 / (2 f2), with the bias-corrected f1 (f1-1) / (2 (f2+1)) where no feature is used
    twice.

    It does not help where D is small: it then estimates numbers above D, which cannot exist, and is capped there. With
    views of the same images, features "used once" are not rare ones.

    Reference:
        Chao, Estimating the population size for capture-recapture data, Biometrics 43, 1987.

    Differs from the paper: never above D, since there are no more features than that.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import chao2
        >>> chao2(np.array([3, 2, 1, 1, 0, 0, 0, 0]), 4)  # 4 + 3/4 * 2 ** 2 / 2
        5.5
    """
    if n < 1:
        return float("nan")
    observed, once, twice = (int(x.sum()) for x in (incidence > 0, incidence == 1, incidence == 2))
    unseen = once**2 / (2 * twice) if twice else once * (once - 1) / 2
    return min(float(len(incidence)), observed + (n - 1) / n * unseen)


def common_sizes(counts: Int[np.ndarray, "C"], sizes: Sequence[int] = (5, 20)) -> list[int]:
    """Return the sample sizes m to report: the given ones, and the largest that every class with images reaches.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import common_sizes
        >>> common_sizes(np.array([50, 12, 0, 30]))
        [5, 12, 20]
    """
    return sorted({*sizes, int(counts[counts > 0].min())})


def view_richness(sets: Bool[np.ndarray, "V D"], images: Int[np.ndarray, "V"], m: int) -> tuple[float, float]:
    """Return the richness of augmented views within images and between them.

    Views of an image are not independent samples, so the two are never one number.

    Args:
        sets: Top-K set of every view.
        images: The image that each is a view of.
        m: Number of sets drawn in each case, >= 1.

    Returns:
        ``within``: distinct features expected in m views of one image, averaged over the images with at least m
        views. ``between``: those expected in one random view of each of m images. NaN where there are fewer than m.

    Differs from the paper: it has no such numbers.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import view_richness
        >>> sets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], dtype=bool)
        >>> view_richness(sets, np.array([0, 0, 1, 1]), 2)  # within: 2 and 1; between: one of each image
        (1.5, 2.0)
    """
    pictures, inverse, views = np.unique(images, return_inverse=True, return_counts=True)
    uses = np.zeros((len(pictures), sets.shape[1]), dtype=np.int64)
    np.add.at(uses, inverse, sets)
    enough = views >= m
    within = float(rarefied_number(uses[enough], views[enough], m).mean()) if enough.any() else float("nan")
    if len(pictures) < m:
        return within, float("nan")
    # One random view per image misses a feature with probability q; over all m-subsets of images the product of
    # q has the mean e_m(q) / C(n, m). The recurrence keeps means, which stay within [0, 1], instead of sums.
    missed = 1 - uses / views[:, None]
    means = np.zeros((m + 1, sets.shape[1]))
    means[0] = 1
    for seen, q in enumerate(missed):
        for size in range(min(m, seen + 1), 0, -1):
            share = size / (seen + 1)  # of the subsets of this size of seen + 1 images, those with the newest one
            means[size] = (1 - share) * means[size] + share * q * means[size - 1]
    return within, float((1 - means[m]).sum())

"""Rival measures of the diversity of embeddings (FE). All of them grow or shrink with n: compare at one size."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

Measures = Mapping[str, float]


def spectrum(features: Float[np.ndarray, "n D"], *, centre: bool = True) -> Float[np.ndarray, "r"]:
    """Return the eigenvalues of the features' scatter matrix divided by n, largest first, min(n, D) of them.

    The smaller of the (D, D) and the (n, n) matrix is decomposed; they share their eigenvalues > 0.

    Args:
        features: FE of one class, n >= 1.
        centre: Subtract the mean. Without this, the mean's own direction, which all ReLU features share, comes first.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import spectrum
        >>> spectrum(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).round(3).tolist()
        [2.0, 0.5]
    """
    rows = features.astype(np.float64)
    if centre:
        rows = rows - rows.mean(0)
    product = rows @ rows.T if rows.shape[0] < rows.shape[1] else rows.T @ rows
    return np.maximum(np.linalg.eigvalsh(product)[::-1] / len(rows), 0.0)


def _entropy_number(shares: np.ndarray) -> float:
    total = shares.sum()
    if total <= 0:
        return 1.0 if len(shares) else float("nan")  # all images alike: one thing
    p = shares[shares > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def vendi_score(eigenvalues: Float[np.ndarray, "r"]) -> float:
    """Return exp(entropy) of the shares of the eigenvalues: the effective number of distinct images, 1 to min(n, D).

    Reference:
        Friedman and Dieng, TMLR 2023, arXiv:2210.02410.

    Differs from the paper: the kernel is linear, and divided by its trace instead of having ones on its diagonal; for
    the paper's cosine kernel, pass the spectrum of rows of length one, not centred.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import vendi_score
        >>> round(vendi_score(np.array([2.0, 2.0, 0.0])), 3)
        2.0
    """
    return _entropy_number(eigenvalues)


def effective_rank(eigenvalues: Float[np.ndarray, "r"]) -> float:
    """Return exp(entropy) of the shares of the singular values (roots of the eigenvalues), 1 to min(n, D).

    Reference:
        Roy and Vetterli, EUSIPCO 2007; Garrido et al. (RankMe), ICML 2023, arXiv:2210.02885.

    Differs from the paper: exact zeros are left out instead of adding an epsilon; RankMe does not centre.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import effective_rank
        >>> round(effective_rank(np.array([4.0, 4.0, 4.0, 0.0])), 3)
        3.0
    """
    return _entropy_number(np.sqrt(eigenvalues))


def spectral_participation(eigenvalues: Float[np.ndarray, "r"]) -> float:
    """Return (sum of eigenvalues)^2 / sum of their squares, 1 to min(n, D).

    Example:
        >>> import numpy as np
        >>> from divaug.latent import spectral_participation
        >>> spectral_participation(np.array([3.0, 1.0]))  # 4 ** 2 / (9 + 1)
        1.6
    """
    squares = (eigenvalues**2).sum()
    return float(eigenvalues.sum() ** 2 / squares) if squares > 0 else 1.0


def mean_cosine(features: Float[np.ndarray, "n D"]) -> float:
    """Return the mean cosine over pairs of different images, -1 to 1; NaN for one image. Rows of zeros have cosine 0.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import mean_cosine
        >>> round(mean_cosine(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])), 3)  # of three pairs, one is parallel
        0.333
    """
    n = len(features)
    if n < 2:
        return float("nan")
    unit = unit_rows(features)
    return float(((unit.sum(0) ** 2).sum() - (unit**2).sum()) / (n * (n - 1)))


def unbiased_vendi(features: Float[np.ndarray, "n D"]) -> float:
    """Return the Vendi score of order 2 without its bias: 1 / mean of squared cosines over pairs of different images.

    The score of order 2 of n images is 1 / mean of squared cosines over *all* pairs. An image paired with itself has
    cosine 1, so that the score of n random images grows with n although their distribution is the same. Without these
    pairs it does not. Use this one to compare sets of different sizes; it estimates the score of the distribution, not
    the number of distinct images in the set, and may exceed n.

    Args:
        features: Features of one class, n >= 2; subtract the mean of the class first. Rows of zeros have cosine 0.

    Returns:
        From 1 (all images alike) up; NaN for one image, infinite if all pairs are at right angles.

    Reference:
        Friedman and Dieng, TMLR 2023, arXiv:2210.02410; Pasarkar and Dieng, arXiv:2310.12952 (orders).

    Differs from the paper: a U-statistic: the diagonal of the cosine kernel is left out.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import unbiased_vendi
        >>> unbiased_vendi(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))  # of three pairs, one is parallel
        3.0
    """
    n = len(features)
    if n < 2:
        return float("nan")
    unit = unit_rows(features)
    gram = unit.T @ unit if unit.shape[1] < n else unit @ unit.T  # both have the same sum of squares
    pairs = (gram**2).sum() - ((unit**2).sum(1) ** 2).sum()
    return float(n * (n - 1) / pairs) if pairs > 0 else float("inf")


def unit_rows(features: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
    """Return the rows in float64 scaled to length one; rows of zeros stay.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import unit_rows
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    rows = features.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def class_measures(features: Float[np.ndarray, "n D"]) -> dict[str, float]:
    """Return all measures that need only one class's images, from one eigendecomposition.

    ``vendi``, ``effective_rank``, ``participation_ratio``, ``variance`` (trace of the covariance, divisor n - 1) and
    ``mean_cosine``.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import class_measures
        >>> found = class_measures(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> {name: round(value, 3) for name, value in found.items()}
        {'vendi': 2.0, 'effective_rank': 2.0, 'participation_ratio': 2.0, 'variance': 1.333, 'mean_cosine': -0.333}
    """
    eigenvalues = spectrum(features)
    n = len(features)
    return {
        "vendi": vendi_score(eigenvalues),
        "effective_rank": effective_rank(eigenvalues),
        "participation_ratio": spectral_participation(eigenvalues),
        "variance": float(eigenvalues.sum() * n / (n - 1)) if n > 1 else float("nan"),
        "mean_cosine": mean_cosine(features),
    }


def density_and_coverage(
    held_out: Float[np.ndarray, "n D"], features: Float[np.ndarray, "m D"], k: int = 5
) -> dict[str, float]:
    """Return how well images cover held-out images of the same class.

    A ball around every held-out image reaches to its k-th nearest held-out neighbour. ``density``: mean number of
    balls that an image lies in, divided by k. ``coverage``: share of balls with an image inside, 0 to 1.

    Args:
        held_out: FE of real images that were not trained on; the result is NaN for k images or fewer.
        features: FE of the images to judge.
        k: Neighbours, >= 1.

    Reference:
        Naeem et al., ICML 2020, arXiv:2002.09797.

    Differs from the paper: nothing.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import density_and_coverage
        >>> held_out = np.array([[0.0], [1.0], [3.0], [4.0]])  # with k = 1, every ball has radius 1
        >>> density_and_coverage(held_out, np.array([[0.5]]), k=1)  # inside the first two
        {'density': 2.0, 'coverage': 0.5}
    """
    from sklearn.metrics import pairwise_distances

    if len(held_out) <= k or not len(features):
        return {"density": float("nan"), "coverage": float("nan")}
    radii = np.partition(pairwise_distances(held_out), k, axis=1)[:, k]  # the nearest, at 0, is the image itself
    inside = pairwise_distances(held_out, features) < radii[:, None]
    return {"density": float(inside.sum(0).mean() / k), "coverage": float(inside.any(1).mean())}


def size_matched(
    features: Float[np.ndarray, "n D"],
    size: int,
    measure: Callable[[np.ndarray], Measures],
    rng: np.random.Generator,
    draws: int = 20,
) -> dict[str, tuple[float, float, float]]:
    """Return the mean and the 2.5 % and 97.5 % quantiles of measures over subsets of one size.

    Subsets are drawn without replacement; a class of exactly that size is measured once.

    Raises:
        ValueError: There are fewer images than ``size``.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import size_matched
        >>> rng, rows = np.random.default_rng(0), np.array([[1.0], [2.0], [3.0]])
        >>> found = size_matched(rows, 2, lambda subset: {"largest": float(subset.max())}, rng)
        >>> found["largest"][1:]  # low and high
        (2.0, 3.0)
    """
    if not 1 <= size <= len(features):
        raise ValueError(f"cannot draw {size} of {len(features)} images")
    times = 1 if len(features) == size else draws
    values = [measure(features[rng.choice(len(features), size, replace=False)]) for _ in range(times)]
    found = {}
    for name in values[0]:
        drawn = [v[name] for v in values]
        low, high = np.quantile(drawn, (0.025, 0.975))
        found[name] = float(np.mean(drawn)), float(low), float(high)
    return found


def nc1(features: Float[np.ndarray, "N D"], labels: Int[np.ndarray, "N"]) -> float:
    """Return the variability collapse NC1: trace(within-class covariance x pseudo-inverse of between-class) / C.

    0 when every class has collapsed to its mean. Classes are weighted equally, whatever their size. NaN where all
    class means coincide.

    Args:
        features: FE.
        labels: Classes; images of class -1 are left out.

    Reference:
        Papyan, Han and Donoho, PNAS 2020, arXiv:2008.08186.

    Differs from the paper: it assumes balanced classes; here the global mean is the mean of class means, and the
    within-class covariance is the mean of the classes' covariances.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import nc1
        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> round(nc1(features, labels), 3)  # variance 1 within classes, 4 between them, two classes
        0.125
    """
    classes = np.unique(labels[labels >= 0])
    means = np.stack([features[labels == c].mean(0, dtype=np.float64) for c in classes])
    centred = means - means.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    kept = singular > singular.max(initial=0) * 1e-7  # one of them is zero but for rounding
    if not kept.any():
        return float("nan")
    # In the span of the class means the pseudo-inverse is a division by the between-class variances.
    project = directions[kept].T / (singular[kept] / np.sqrt(len(classes)))
    trace = 0.0
    for mean, c in zip(means, classes, strict=True):
        residual = (features[labels == c] - mean) @ project
        trace += (residual**2).sum() / len(residual)
    return float(trace / len(classes) / len(classes))


def affinity(
    clean_logits: Float[np.ndarray, "N C"], augmented_logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, "N"]
) -> float:
    """Return a model's accuracy on augmented images relative to its accuracy on clean ones, which it was trained on.

    1 where augmented images are as recognisable as clean ones; NaN where no clean image is recognised.

    Reference:
        Gontijo-Lopes et al., Affinity and Diversity, 2020, arXiv:2002.08973.

    Differs from the paper: nothing; a ratio of accuracies.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import affinity
        >>> clean, augmented = np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 0.0]])
        >>> affinity(clean, augmented, np.array([0, 1]))
        0.5
    """
    clean = (clean_logits.argmax(1) == labels).mean()
    return float((augmented_logits.argmax(1) == labels).mean() / clean) if clean else float("nan")

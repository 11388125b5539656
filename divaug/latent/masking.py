"""What a class loses without some features: its own top-K, compared with random features and equally large ones."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from divaug.latent.embeddings import Embeddings
from divaug.latent.statistics import class_top_k


def masked_recall(embeddings: Embeddings, c: int, features: Int[np.ndarray, "K"]) -> float:
    """Return a class's recall when some features contribute nothing to any class's logit; NaN without images.

    Their contributions are subtracted from all logits; for a cosine head, the norms stay as they were.

    Args:
        embeddings: Test images, with a head.
        c: Class.
        features: Features to leave out.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, masked_recall
        >>> fe, weight = np.array([[3.0, 1.0], [2.0, 4.0], [0.0, 5.0]]), np.eye(2)
        >>> bundle = Embeddings(fe, np.array([0, 0, 1]), ("cat", "dog"), weight=weight, logits=fe @ weight.T)
        >>> [masked_recall(bundle, 1, np.array(features)) for features in ([0], [1])]
        [1.0, 0.0]
    """
    assert embeddings.weight is not None and embeddings.logits is not None
    rows = embeddings.rows(c)
    if not len(rows):
        return float("nan")
    values, weight = embeddings.factors(rows)
    taken = embeddings.scale * values[:, features] @ weight[:, features].T
    return float(((embeddings.logits[rows] - taken).argmax(1) == c).mean())


def alike_in_magnitude(mean_fe: Float[np.ndarray, "D"], top: Int[np.ndarray, "K"]) -> Int[np.ndarray, "L"]:
    """Return, for each feature of a set, the one outside it with the nearest mean FE, none twice; largest first.

    Fewer than K where the set has more than half of all features.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import alike_in_magnitude
        >>> alike_in_magnitude(np.array([5.0, 4.9, 1.0, 0.9, 3.0]), np.array([0, 2])).tolist()
        [1, 3]
    """
    left = np.setdiff1d(np.arange(len(mean_fe)), top)
    found = []
    for feature in top[np.argsort(-mean_fe[top], kind="stable")][: len(left)]:
        nearest = np.abs(mean_fe[left] - mean_fe[feature]).argmin()
        found.append(left[nearest])
        left = np.delete(left, nearest)
    return np.array(found, dtype=np.int64)


def recall_lost(
    train: Embeddings, test: Embeddings, c: int, ks: Sequence[int], rng: np.random.Generator, draws: int = 20
) -> dict[int, dict[str, float]]:
    """Return, by K, the test recall that a class loses without its top-K, K random features or K equally large ones.

    The class's top-K comes from its recognised training images (all of them where none is recognised). That losing
    what carries a logit costs recall is almost a matter of arithmetic: the informative part is the difference from
    features of the same magnitude (``matched``), and between rare and frequent classes.

    Args:
        train: Training images.
        test: Test images of the same network.
        c: Class.
        ks: Sizes, each 1 to D; from D / 2 on ``matched`` runs out of features.
        rng: Draws the random features.
        draws: Number of random sets per K.

    Returns:
        For each K the recall lost, from 0 to 1: ``top``, ``random`` (a mean) and ``matched``; NaN for a class without
        images.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, recall_lost
        >>> fe, weight = np.array([[3.0, 1.0], [2.0, 4.0], [0.0, 5.0]]), np.eye(2)
        >>> bundle = Embeddings(fe, np.array([0, 0, 1]), ("cat", "dog"), weight=weight, logits=fe @ weight.T)
        >>> lost = recall_lost(bundle, bundle, 1, [1], np.random.default_rng(0))
        >>> lost[1]["top"], lost[1]["matched"]
        (1.0, 0.0)
    """
    source = train.rows(c, "TP")
    source = source if len(source) else train.rows(c)
    if not len(source) or not len(test.rows(c)):
        return {k: dict.fromkeys(("top", "random", "matched"), float("nan")) for k in ks}
    mean_ce, mean_fe = train.contributions(source).mean(0), train.features[source].mean(0, dtype=np.float64)
    whole = masked_recall(test, c, np.empty(0, dtype=np.int64))
    lost = {}
    for k in ks:
        top = class_top_k(mean_ce, k)
        random = [masked_recall(test, c, rng.choice(test.dimensions, k, replace=False)) for _ in range(draws)]
        lost[k] = {
            "top": whole - masked_recall(test, c, top),
            "random": whole - float(np.mean(random)),
            "matched": whole - masked_recall(test, c, alike_in_magnitude(mean_fe, top)),
        }
    return lost

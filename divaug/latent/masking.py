"""What a class loses when features are taken away: its own top-K, against random ones and ones as large."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from divaug.latent.embeddings import Embeddings
from divaug.latent.statistics import class_top_k


def masked_recall(embeddings: Embeddings, c: int, features: Int[np.ndarray, "K"]) -> float:
    """Return a class's recall when some features count for nothing in any class's logit; NaN without pictures.

    Their contributions are taken out of all logits; for a cosine head the norms stay what they were.

    Args:
        embeddings: Test pictures, with a head.
        c: Class.
        features: Features taken away.
    """
    assert embeddings.weight is not None and embeddings.logits is not None
    rows = embeddings.rows(c)
    if not len(rows):
        return float("nan")
    values, weight = embeddings.factors(rows)
    taken = embeddings.scale * values[:, features] @ weight[:, features].T
    return float(((embeddings.logits[rows] - taken).argmax(1) == c).mean())


def alike_in_magnitude(mean_fe: Float[np.ndarray, "D"], top: Int[np.ndarray, "K"]) -> Int[np.ndarray, "L"]:
    """Return for each feature of a set another, outside it, of the nearest mean FE, none twice; largest first.

    Fewer than K where the set has more than half of all features.
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
    """Return by K the test recall that a class loses with its top-K, with K random features and with K as large.

    The class's top-K is of its recognised training pictures (all of them where none is recognised). That losing what
    carries a logit costs recall is nearly a matter of arithmetic: what says something is the difference from features
    of the same size (``matched``), and between rare and frequent classes.

    Args:
        train: Training pictures.
        test: Test pictures of the same network.
        c: Class.
        ks: Sizes, each 1 to D; from D / 2 on ``matched`` runs out of features.
        rng: Draws the random features.
        draws: How often.

    Returns:
        K to ``top``, ``random`` (a mean) and ``matched``, in recall from 0 to 1; NaN for a class without pictures.
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

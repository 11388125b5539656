"""Evidence on the claims from one trained network: one row per class, one column per measure. Only pure functions."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from divaug.latent.embeddings import Embeddings
from divaug.latent.gaps import magnitude_shift, matched, mean_shift, range_gap
from divaug.latent.instances import descending_order
from divaug.latent.masking import recall_lost
from divaug.latent.rarefaction import rarefied_number
from divaug.latent.statistics import ADAPTIVE, class_top_k, effective_number, instance_sets, top_share

K = 10
MASK_KS = (1, 2, 5, 10, 20)
SIZES = (5, 20)
DRAWS = 20
PATCH_FEATURES = 3

Evidence = dict[int, dict[str, float]]  # class -> measure -> value


def class_rows(embeddings: Embeddings, match: int, seed: int = 0, prefix: str = "") -> Evidence:
    """Return how many features the classes' images use and how large they are, raw and in ``match`` images.

    In an encoder's space the features are the largest FE, and no value is relative to a logit.

    Args:
        embeddings: Training images.
        match: Number of images that every class is reduced to: the size of the smallest class in the long-tailed cut.
        seed: Seed of the subsets.
        prefix: Put before the measures' names.
    """
    out: Evidence = {}
    k = min(K, embeddings.dimensions)
    for c in range(embeddings.num_classes):
        rows = embeddings.rows(c)
        if not len(rows):
            continue
        values = embeddings.contributions(rows)
        order = descending_order(values)
        fixed = instance_sets(embeddings, rows, values, k, order=order)
        found = {
            "number_raw": float(fixed.any(0).sum()),
            "effective_raw": float(effective_number(fixed.sum(0).astype(np.float64))),
            "magnitude_raw": float(values.mean(0).max()),
            "top_share_raw": top_share(values.mean(0)),
        }
        winning = 1.0
        if embeddings.logits is not None:
            winning = float(embeddings.logits[rows].max(1).mean()) / embeddings.scale
            needed = instance_sets(embeddings, rows, values, ADAPTIVE, order=order)[embeddings.predictions[rows] == c]
            found["adaptive_number_raw"] = float(needed.any(0).sum())
            found["adaptive_per_image"] = float(needed.sum(1).mean()) if len(needed) else float("nan")
        for m in {*SIZES, match}:
            found[f"rarefied_{m}"] = float(rarefied_number(fixed.sum(0), np.array(len(rows)), m))
        found |= _in_subsets(values, fixed, winning, match, np.random.default_rng([seed, c]))
        found["n"] = float(len(rows))
        out[c] = {prefix + name: value for name, value in found.items()}
    return out


def _in_subsets(
    values: np.ndarray, sets: np.ndarray, winning: float, size: int, rng: np.random.Generator
) -> dict[str, float]:
    """Return means over subsets of one size; magnitudes are relative to the mean winning logit."""
    names = ("effective_matched", "magnitude_matched", "top_share_matched")
    if len(values) < size:
        return dict.fromkeys(names, float("nan"))
    drawn = []
    for _ in range(1 if len(values) == size else DRAWS):
        rows = rng.choice(len(values), size, replace=False)
        mean = values[rows].mean(0)
        effective = float(effective_number(sets[rows].sum(0).astype(np.float64)))
        drawn.append((effective, float(mean.max()) / winning if winning else float("nan"), top_share(mean)))
    return dict(zip(names, np.mean(drawn, axis=0).tolist(), strict=True))


def recall_rows(train: Embeddings, test: Embeddings, seed: int = 0) -> Evidence:
    """Return recall, what masking costs, and the train-test differences of every class."""
    out: Evidence = {}
    ks = [k for k in MASK_KS if k <= train.dimensions // 2]
    for c in range(train.num_classes):
        rng = np.random.default_rng([seed, c])
        if not len(train.rows(c)) or not len(test.rows(c)):
            continue
        shift = magnitude_shift(train, test, c, min(K, train.dimensions))
        ours, theirs = train.features[train.rows(c)], test.features[test.rows(c)]
        fair = matched({"gap": range_gap, "mean_shift": mean_shift}, ours, theirs, rng, 50)
        found = {
            "train_recall": len(train.rows(c, "TP")) / len(train.rows(c)),
            "test_recall": len(test.rows(c, "TP")) / len(test.rows(c)),
            "ce_loss": 1 - shift.ce,
            "fe_loss": 1 - shift.fe,
            "shape_distance": shift.shape,
            "margin_loss": shift.train_margin - shift.test_margin,
            "gap_raw": float(range_gap(ours, theirs)),
            "gap_excess": fair["gap"].value - fair["gap"].null,
            "mean_shift_raw": float(mean_shift(ours, theirs)),
            "mean_shift_excess": fair["mean_shift"].value - fair["mean_shift"].null,
        }
        for k, lost in recall_lost(train, test, c, ks, rng, DRAWS).items():
            found |= {f"lost_{name}_{k}": value for name, value in lost.items()}
        out[c] = found
    return out


def patch_rows(train: Embeddings, clean: Embeddings, patched: Embeddings, classes: Iterable[int]) -> Evidence:
    """Return what the patch does to classes: in their top-K, in their recall, and in attracting other classes' images.

    The patch's features are the three whose FE grow most with the patch, in standard deviations over clean test
    images; that needs no head. ``patch_in_top`` is the share of them in the class's top-K (by chance K / D).

    Args:
        train: Training images, as trained on.
        clean: Test images.
        patched: The same test images, every one with the patch.
        classes: Which classes to look at.
    """
    out: Evidence = {}
    deviation = clean.features.std(0, dtype=np.float64)
    rise = (patched.features - clean.features).mean(0, dtype=np.float64) / np.maximum(deviation, 1e-6)
    features = np.argsort(-rise, kind="stable")[:PATCH_FEATURES]
    for c in classes:
        source = train.rows(c, "TP")
        source = source if len(source) else train.rows(c)
        top = class_top_k(train.contributions(source).mean(0), min(K, train.dimensions))
        members, others = clean.labels == c, clean.labels != c
        out[c] = {
            "patch_in_top": float(np.isin(features, top).mean()),
            "patch_recall_clean": float((clean.predictions[members] == c).mean()),
            "patch_recall_patched": float((patched.predictions[members] == c).mean()),
            "patch_draws_others": float(
                (patched.predictions[others] == c).mean() - (clean.predictions[others] == c).mean()
            ),
        }
    return out


def table_of(parts: Iterable[Evidence], embeddings: Embeddings, **columns: Any) -> Any:
    """Return one DataFrame of evidence: the run's columns, the class with its name and tercile, and the measures."""
    import pandas as pd

    merged: Evidence = {c: {} for c in range(embeddings.num_classes)}
    for part in parts:
        for c, found in part.items():
            merged[c] |= found
    return pd.DataFrame(
        [
            {**columns, "class": c, "class_name": embeddings.class_names[c], "tercile": embeddings.terciles[c], **found}
            for c, found in merged.items()
        ]
    )

"""A problem of six images, three classes and four features, worked out by hand."""

import numpy as np

from divaug.latent.embeddings import Embeddings

W = np.array([[1, -0.5, 2, 0], [-1, 1.5, 0.5, 1], [0.5, 0.5, -1, 2.0]])
B = np.array([0.1, -0.2, 0.0])
F = np.array([[2, 0, 1, 0], [1, 1, 1, 0], [0, 2, 0, 1], [0.5, 1, 0, 0.5], [0, 0, 0, 2], [1, 0, 1, 0.0]])
LABELS = np.array([0, 0, 1, 1, 2, 2])
LOGITS = np.array([[4.1, -1.7, 0], [2.6, 0.8, 0], [-0.9, 3.8, 3], [0.1, 1.3, 1.75], [0.1, 1.8, 4], [3.1, -0.7, -0.5]])
PRED = np.array([0, 0, 1, 2, 2, 0])
CE_PRED = np.array([[2, 0, 2, 0], [1, -0.5, 2, 0], [0, 3, 0, 1], [0.25, 0.5, 0, 1], [0, 0, 0, 4], [1, 0, 2, 0.0]])
RUNNER_UP = np.array([0, 0.8, 3, 1.3, 1.8, -0.5])
TP = [[0, 1], [2], [4]]
NAMES = ("a", "b", "c")


def bundle(**changes):
    return Embeddings(**{"features": F, "labels": LABELS, "class_names": NAMES, "weight": W, "bias": B,
                         "logits": LOGITS, **changes})  # fmt: skip


def random_bundle(seed=0, n=60, d=12, c=4, counts=None, cosine=False, **changes):
    """Images of classes that lean towards their weights, features >= 0 with many exact zeros."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(c), counts) if counts is not None else rng.integers(0, c, n)
    weight = rng.normal(size=(c, d))
    features = np.maximum(rng.normal(size=(len(labels), d)) + 0.7 * weight[labels], 0)
    bias = None if cosine else rng.normal(size=c) * 0.1
    if cosine:
        unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        logits = 30 * unit @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T
    else:
        logits = features @ weight.T + bias
    return Embeddings(features, labels, tuple(f"class {i}" for i in range(c)), weight, bias, logits,
                      scale=30.0 if cosine else 1.0, cosine=cosine, **changes)  # fmt: skip

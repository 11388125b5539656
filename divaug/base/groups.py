"""Class counts, and the groups in which classes are reported. No torch: measurements work without it."""

from typing import Any

import numpy as np

GROUPS = ("head", "mid", "tail")
SHOTS = ("many", "medium", "few")


def count_classes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of images of every class, int64 ``(C,)``."""
    return np.bincount(np.asarray(labels, dtype=np.int64), minlength=num_classes)


def same_counts(labels: Any, class_counts: Any) -> None:
    """Refuse counts that are not those of the labels: classes would be drawn that were not meant.

    Args:
        labels: Class of every image, ``(N,)``; a tensor or an array.
        class_counts: Images of each class, ``(C,)``.

    Raises:
        ValueError: They differ, or a label is no class.
    """
    labels, class_counts = np.asarray(labels), np.asarray(class_counts)
    if labels.size and (labels.min() < 0 or labels.max() >= len(class_counts)):
        raise ValueError(f"labels must lie in 0 to {len(class_counts) - 1}, got {labels.min()} to {labels.max()}")
    found = count_classes(labels, len(class_counts))
    if wrong := np.flatnonzero(found != class_counts)[:5].tolist():
        raise ValueError(
            f"class_counts are not those of the labels: classes {wrong} have {found[wrong].tolist()} images, not "
            f"{class_counts[wrong].tolist()}"
        )


def rank_groups(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Split classes into head, mid and tail by rank of their training count (terciles; ties by class index).

    The head takes the larger part when C is not a multiple of three; with two classes mid is empty.
    """
    order = np.argsort(-np.asarray(counts), kind="stable")
    head, tail = -(-len(order) // 3), max(1, len(order) // 3)
    parts = order[:head], order[head : len(order) - tail], order[len(order) - tail :]
    return {name: np.sort(part) for name, part in zip(GROUPS, parts, strict=True)}


def shot_groups(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Split classes as Liu et al. (2019, arXiv:1904.05160) do: many > 100, medium 20 to 100, few < 20."""
    counts = np.asarray(counts)
    masks = counts > 100, (counts >= 20) & (counts <= 100), counts < 20
    return {name: np.flatnonzero(mask) for name, mask in zip(SHOTS, masks, strict=True)}

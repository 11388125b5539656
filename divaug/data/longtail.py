"""Long-tailed training cuts: from labels to indices, pure functions with a manifest."""

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from divaug.base.errors import ConfigError, DataError, suggestion
from divaug.base.rng import stream

PROFILES = ("exp", "linear", "step", "custom", "balanced", "balanced_small", "natural")
SUBSETS = ("nested", "literature")


@dataclass(frozen=True)
class Cut:
    """A chosen subset of the training images.

    Attributes:
        indices: Positions in the full training set, ascending, int64 ``(N,)``.
        counts: Images of each class, int64 ``(C,)``.
        group_counts: The counts that define head, mid and tail classes: those of the long-tailed cut of the same
            configuration, also in the balanced controls.
    """

    indices: np.ndarray
    counts: np.ndarray
    group_counts: np.ndarray

    @property
    def sha256(self) -> str:
        """SHA-256 of the indices as little-endian int64 in ascending order."""
        return hashlib.sha256(self.indices.astype("<i8").tobytes()).hexdigest()


def class_ranks(num_classes: int, order: str) -> np.ndarray:
    """Return each class's rank by size, 0 the largest.

    Args:
        num_classes: C.
        order: ``native`` (class 0 is the largest), ``reversed``, or ``permuted:SEED``.
    """
    ranks = np.arange(num_classes)
    if order == "native":
        return ranks
    if order == "reversed":
        return ranks[::-1].copy()
    return stream(int(order.removeprefix("permuted:")), "class_order").permutation(ranks)


def profile_counts(profile: str, available: np.ndarray, factor: float, ranks: np.ndarray) -> np.ndarray:
    """Return the number of images each class keeps.

    ``exp``: n_max * factor ** (-rank / (C - 1)), rounded down; ``linear``: n_max less an equal step for every rank,
    down to n_max / factor, rounded down; ``step``: the first C // 2 ranks keep n_max, the others n_max / factor;
    ``balanced``: n_max each; ``balanced_small``: the ``exp`` cut's total divided equally; ``natural``: all images.
    n_max is the size of the smallest class available, so that every rank can be filled.

    Reference:
        Cui et al., Class-Balanced Loss, CVPR 2019, arXiv:1901.05555 (exp); Buda et al., 2018, arXiv:1710.05381
        (step, linear).

    Raises:
        DataError: A class would keep no image.
    """
    num_classes, largest = len(available), int(available.min())
    if largest < 1:
        raise DataError(f"classes {np.flatnonzero(available < 1).tolist()} have no training image")
    if num_classes < 2:
        raise DataError("there is one class: an imbalance needs two or more")
    if profile == "natural":
        return available.astype(np.int64)
    if profile == "step":
        by_rank = [largest if r < num_classes // 2 else int(largest * (1 / factor)) for r in range(num_classes)]
    elif profile == "linear":
        fall = largest * (1 - 1 / factor) / (num_classes - 1.0)
        by_rank = [int(largest - fall * r + 1e-9) for r in range(num_classes)]  # 1e-9: 1000 / 10 is 100, not 99
    elif profile == "balanced":
        by_rank = [largest] * num_classes
    else:
        # The same expression as in the literature's code: int() of another grouping loses an image to rounding.
        by_rank = [int(largest * ((1 / factor) ** (r / (num_classes - 1.0)))) for r in range(num_classes)]
        if profile == "balanced_small":
            by_rank = [sum(by_rank) // num_classes] * num_classes
    counts = np.asarray(by_rank, dtype=np.int64)[ranks]
    if (counts < 1).any():
        raise DataError(
            f"an imbalance factor of {factor:g} leaves classes {np.flatnonzero(counts < 1).tolist()} with no image: "
            f"the largest class has {largest}; use a factor of at most {largest}"
        )
    return counts


def cut(
    labels: np.ndarray,
    num_classes: int,
    *,
    profile: str = "exp",
    factor: float = 100.0,
    counts: tuple[int, ...] = (),
    order: str = "native",
    subset: str = "literature",
    seed: int = 0,
    max_per_class: int | None = None,
) -> Cut:
    """Choose the training images.

    Args:
        labels: Class of every image.
        num_classes: C.
        profile: See ``profile_counts``; ``custom`` takes ``counts``.
        factor: Largest over smallest class, >= 1.
        counts: Images of each class, profile ``custom`` only.
        order: See ``class_ranks``.
        subset: ``literature``: one ``numpy.random.RandomState(seed)`` shuffles each class's indices in turn and the
            first n are kept, as LDAM-DRW and its descendants do with seed 0. ``nested``: each class has its own
            stream, so a smaller cut lies within a larger one and another class order changes nothing else.
        seed: Seed of the choice.
        max_per_class: Use at most this many images per class of the data set; the profile applies to these.

    Raises:
        ConfigError: An argument is not among those allowed.
        DataError: A class would keep no image, or a class has fewer than ``counts`` asks for.
    """
    for key, value, allowed in (("profile", profile, PROFILES), ("subset", subset, SUBSETS)):
        if value not in allowed:
            raise ConfigError(f"unknown {key} {value!r}; {suggestion(value, allowed)}")
    if not re.fullmatch(r"native|reversed|permuted:[0-9]+", order):
        raise ConfigError(f"class_order must be native, reversed or permuted:SEED, got {order!r}")
    if not factor >= 1:
        raise ConfigError(f"imbalance_factor must be >= 1, got {factor:g}")
    if bool(counts) != (profile == "custom"):
        raise ConfigError("counts go with profile custom, which needs them")
    whole = {"counts": list(counts), "max_per_class": [max_per_class or 1], "seed": [seed]}
    for key, values in whole.items():
        if not all(isinstance(value, int | np.integer) and value >= (key != "seed") for value in values):
            raise ConfigError(f"{key} must be whole and not negative, got {values}")
    labels = np.asarray(labels)
    available = np.bincount(labels, minlength=num_classes)
    if max_per_class is not None:
        available = np.minimum(available, max_per_class)
    if profile == "custom":
        kept = np.asarray(counts, dtype=np.int64)
        if len(kept) != num_classes:
            raise DataError(f"counts names {len(kept)} classes, but the data have {num_classes}")
        group_counts = kept
    else:
        ranks = class_ranks(num_classes, order)
        kept = profile_counts(profile, available, factor, ranks)
        controls = profile.startswith("balanced")
        group_counts = profile_counts("exp", available, factor, ranks) if controls else kept
    if short := np.flatnonzero(kept > available).tolist():
        raise DataError(
            f"classes {short} have only {available[short].tolist()} images, but {kept[short].tolist()} are wanted"
        )
    chosen = []
    literature = np.random.RandomState(seed)
    for c in range(num_classes):
        members = np.flatnonzero(labels == c)
        if subset == "literature":
            literature.shuffle(members)
        else:
            members = stream(seed, f"cut/{c}").permutation(members)
        chosen.append(members[: kept[c]])
    return Cut(np.sort(np.concatenate(chosen)), kept, group_counts)

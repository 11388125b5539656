"""A long-tailed cut of any labelled data set."""

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
from torch.utils.data import Subset

from divaug.data.longtail import Cut, cut


class LongTail(Subset[Any]):
    """A cut of a data set, with what is needed to verify it.

    Attributes:
        labels: Class of every image of the cut, int64 ``(N,)``.
        counts: Images per class.
        manifest: Counts, profile, factor and order (None where the profile has none), subset, seed, and the SHA-256 of
            the indices.

    Example:
        >>> import torch
        >>> from divaug.interop import long_tail
        >>> data = torch.utils.data.TensorDataset(torch.zeros(300, 1), torch.arange(300) % 3)
        >>> cut = long_tail(data, 10)
        >>> len(cut), cut.labels.shape, cut.manifest["counts"]
        (141, (141,), [100, 31, 10])
    """

    def __init__(self, dataset: Any, labels: np.ndarray, chosen: Cut, settings: dict[str, Any]) -> None:
        super().__init__(dataset, chosen.indices.tolist())
        self.labels = labels[chosen.indices]
        self.counts = chosen.counts.tolist()
        self.manifest = {**settings, "counts": self.counts, "cut_indices_sha256": chosen.sha256}


def long_tail(
    dataset: Any,
    imbalance_factor: float | int = 100.0,
    *,
    profile: str = "exp",
    counts: Sequence[int] = (),
    class_order: str = "native",
    subset: str = "literature",
    seed: int = 0,
    max_per_class: int | None = None,
) -> LongTail:
    """Cut a data set so that its classes fall off in size, as ``cifar_lt`` does.

    Args:
        dataset: Any data set of (image, label) with ``targets`` or ``labels`` (torchvision's have one of them, and
            their ``target_transform`` is applied); of one with neither every item is loaded once to see its label.
        imbalance_factor: Largest over smallest class, >= 1. Profiles natural and custom have none.
        profile: exp, linear, step, balanced, balanced_small, natural, or custom with ``counts``.
        counts: Images per class, profile custom only.
        class_order: Which class is large: native, reversed or permuted:SEED.
        subset: How images are picked: ``literature``, as LDAM-DRW does with seed 0, or divaug's ``nested``.
        seed: Seed of the choice.
        max_per_class: Treat the data set as having at most so many images per class.

    Returns:
        A ``torch.utils.data.Subset`` with ``labels``, ``counts`` and ``manifest``.

    Raises:
        ConfigError: An argument is not among those allowed.
        DataError: A class would keep no image, or has fewer than ``counts`` asks for.
        ValueError: Labels are not whole numbers from 0.

    Example:
        >>> import torch, divaug
        >>> images, labels = torch.zeros(300, 1), torch.arange(300) % 3
        >>> data = torch.utils.data.TensorDataset(images, labels)
        >>> divaug.long_tail(data, imbalance_factor=10).counts
        [100, 31, 10]
    """
    labels = _labels(dataset)
    ranked = profile not in ("natural", "custom")
    said = {
        "profile": profile, "imbalance_factor": imbalance_factor if ranked else None,
        "class_order": class_order if ranked else None, "subset": subset, "seed": seed,
        "max_per_class": max_per_class, "images": len(labels),
    }  # fmt: skip
    chosen = cut(
        labels,
        int(labels.max()) + 1,
        profile=profile,
        factor=float(imbalance_factor),
        counts=tuple(counts),
        order=class_order,
        subset=subset,
        seed=seed,
        max_per_class=max_per_class,
    )
    return LongTail(dataset, labels, chosen, said)


def _labels(dataset: Any) -> np.ndarray:
    for name in ("targets", "labels"):  # what torchvision's data sets call them
        if name in dir(dataset):
            found = np.asarray(getattr(dataset, name))
            if (transform := vars(dataset).get("target_transform")) is not None:  # items have it applied, these not
                found = np.array([transform(label) for label in found.tolist()])
            break
    else:
        try:
            found = np.array([index(dataset[i][1]) for i in range(len(dataset))])
        except TypeError as error:
            raise ValueError(f"labels must be whole numbers >= 0, one per image: {error}") from error
    if len(found) != len(dataset):
        raise ValueError(f"the data set has {len(dataset)} items but {len(found)} labels: those of a parent?")
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer) or not len(found) or found.min() < 0:
        raise ValueError(f"labels must be whole numbers >= 0, one per image, got {found.dtype} {found.shape}")
    return found.astype(np.int64)

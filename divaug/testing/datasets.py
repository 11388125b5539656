"""The contract of the family ``datasets``."""

import numpy as np

from divaug.base.errors import ConfigError
from divaug.config.registry import PIXEL
from divaug.data.images import Dataset
from divaug.testing.kit import Subject, demand


def parts(subject: Subject) -> str:
    dataset, said = subject.make(), []
    demand(isinstance(dataset, Dataset), f"returns {type(dataset).__name__} instead of a Dataset")
    for name, part in (("train", dataset.train), ("test", dataset.test), ("val", dataset.val)):
        if part is None:
            continue
        shape = part.images.shape
        demand(len(shape) == 4 and shape[3] in (1, 3), f"{name} images are {shape} instead of (N, H, W, 1 or 3)")
        first = part.images[np.arange(min(2, shape[0]))]
        demand(first.dtype == np.uint8, f"{name} images are {first.dtype}, must be uint8")
        demand(part.labels.shape == shape[:1], f"{name} has {part.labels.shape} labels for {shape[0]} images")
        inside = (part.labels >= 0) & (part.labels < len(dataset.class_names))
        demand(part.labels.dtype == np.int64 and inside.all(), f"{name} labels must be int64 from 0 to C - 1")
        said.append(f"{name} {shape[0]}")
    missing = set(range(len(dataset.class_names))) - set(np.unique(dataset.train.labels).tolist())
    demand(not missing, f"classes {sorted(missing)[:5]} have no training image")
    return f"{len(dataset.class_names)} classes; images: {', '.join(said)}"


def declarations(subject: Subject) -> str:
    dataset = subject.make()
    channels = dataset.train.images.shape[3]
    for name, values in (("mean", dataset.mean), ("std", dataset.std)):
        demand(len(values) == channels, f"{name} has {len(values)} values for {channels} channels")
    demand(all(0 <= m <= 1 for m in dataset.mean) and all(0 < s <= 1 for s in dataset.std), "mean, std are of 0 to 1")
    demand(len(set(dataset.class_names)) == len(dataset.class_names), "two classes have one name")
    try:
        PIXEL.entry(dataset.pixel)
    except ConfigError as error:
        demand(False, f"its default augmentation: {error}")
    return f"normalisation for {channels} channels; default augmentation {dataset.pixel}"


CHECKS = (parts, declarations)

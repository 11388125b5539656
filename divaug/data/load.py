"""From a configuration to data: the data set, the training cut, the validation part, and their manifest."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from divaug.base.errors import ConfigError, DataError
from divaug.base.groups import count_classes, rank_groups
from divaug.config.registry import DATASETS
from divaug.config.schema import OWN_IMAGES, Config
from divaug.data.extra import with_extra
from divaug.data.halves import half
from divaug.data.images import Dataset, Part, Request
from divaug.data.loaders import steps_of
from divaug.data.longtail import Cut, cut
from divaug.data.split import carve, hold_out


@dataclass(frozen=True)
class Data:
    """The parts that a run uses.

    Attributes:
        dataset: The data set as declared.
        cut: The training cut, before validation images were carved off it.
        train, val, test: Parts; val is None without a validation split.
        counts: Training images per class, ``(C,)``, extra ones included.
        notes: Notes for the user.
        identity: What the images and labels are, before any cut; see ``Dataset.identity``.
        split_seed, class_order: Those of this run's cut; see ``varied``.
        extra: Extra images of each class by source; they come after the cut's images in ``train``.
    """

    dataset: Dataset
    cut: Cut
    train: Part
    val: Part | None
    test: Part
    counts: np.ndarray
    notes: tuple[str, ...]
    identity: str
    split_seed: int
    class_order: str
    extra: dict[str, list[int]] = field(default_factory=dict)

    @property
    def own_images(self) -> int:
        """Number of images in ``train`` that belong to the cut; extra ones come after them."""
        return len(self.train.labels) - sum(sum(counts) for counts in self.extra.values())

    @property
    def manifest(self) -> dict[str, Any]:
        """What is needed to rebuild and check the same parts."""
        names = self.dataset.class_names
        return {
            "class_names": names,
            "counts": self.counts.tolist(),
            "cut_counts": self.cut.counts.tolist(),
            "extra_counts": self.extra,
            "group_counts": self.cut.group_counts.tolist(),
            "groups": {k: [names[c] for c in v] for k, v in rank_groups(self.cut.group_counts).items()},
            "cut_indices_sha256": self.cut.sha256,
            "data": self.identity,
            "train_sha256": self.train.sha256,
            "val_sha256": None if self.val is None else self.val.sha256,
            "test_sha256": self.test.sha256,
            "split_seed": self.split_seed,
            "class_order": self.class_order,
            "val_counts": None if self.val is None else count_classes(self.val.labels, len(names)).tolist(),
            "test_counts": count_classes(self.test.labels, len(names)).tolist(),
            "image_shape": list(self.train.images.shape[1:]),
            "mean": list(self.dataset.mean),
            "std": list(self.dataset.std),
            "default_pixel": self.dataset.pixel,
            "notes": list(self.notes),
        }


def varied(config: Config) -> tuple[int, str]:
    """Return the split seed and the class order of a run: with ``vary`` cut, each training seed k has its own.

    The split seed is then the base + k; the class order is native for k = 0 and ``permuted:k`` otherwise, unless
    another than native was given, or the profile takes the classes' sizes as they are. ``images`` varies the split seed
    alone.
    """
    if config.vary == "init":
        return config.split_seed, config.class_order
    given = config.class_order != "native" or config.profile in ("natural", "custom")
    fixed = given or config.vary == "images" or config.seed == 0
    return config.split_seed + config.seed, config.class_order if fixed else f"permuted:{config.seed}"


def load_data(config: Config) -> Data:
    """Load the data set, make the training cut and carve off the validation part.

    Raises:
        DataError: Data missing, damaged, or a class without an image.
    """
    split_seed, class_order = varied(config)
    dataset = dataset_of(config, split_seed)
    identity = dataset.identity
    if config.data_part != "all":
        dataset = replace(dataset, train=dataset.train.take(half(dataset.train, config.data_part)))
    num_classes = dataset.num_classes
    if config.profile == "custom" and len(config.counts) != num_classes:
        raise ConfigError(f"counts names {len(config.counts)} classes, but {config.dataset} has {num_classes}")
    val = dataset.val
    if val is not None and (config.val_frac or config.holdout):
        key = "val-frac" if config.val_frac else "holdout"
        raise ConfigError(f"the data name a validation part of {len(val.labels)} images: give no {key}")
    if config.holdout:
        if dataset.train.groups is not None:
            raise ConfigError("holdout takes single images, but these have groups (slides, patients): use --val-frac")
        held = hold_out(dataset.train.labels, num_classes, config.holdout, config.split_seed)
        val, dataset = dataset.train.take(held), replace(dataset, train=dataset.train.take(~held))
    chosen = cut(
        dataset.train.labels,
        num_classes,
        profile=config.profile,
        factor=config.imbalance_factor,
        counts=config.counts,
        order=class_order,
        subset=config.subset,
        seed=split_seed,
        max_per_class=config.max_per_class,
    )
    train, notes = dataset.train.take(chosen.indices), list(dataset.notes)
    if config.val_frac:
        held = carve(train.labels, config.val_frac, split_seed, train.groups, train.digests)
        for c in np.flatnonzero(count_classes(train.labels[~held], num_classes) == 0):
            whole = train.labels == c  # the whole class lies in held-out groups: return the groups
            held &= ~(whole if train.groups is None else np.isin(train.groups, train.groups[whole]))
        val, train = train.take(held), train.take(~held)
        without = np.flatnonzero(count_classes(val.labels, num_classes) == 0)
        if len(without):
            names = [dataset.class_names[c] for c in without]
            notes.append(f"classes {names} have no validation image: too few to spare one")
        if not len(val.labels):
            raise DataError(f"a validation share of {config.val_frac} leaves no image for validation")
    size = config.image_size
    parts = [None if part is None else _resized(part, size) for part in (train, val, dataset.test)]
    assert parts[0] is not None and parts[2] is not None
    extra: dict[str, list[int]] = {}
    if config.extra_train is not None:
        held_out = {"test": parts[2]} | ({} if parts[1] is None else {"validation": parts[1]})
        how = {"resize": config.resize, "bits": config.bits}
        parts[0], extra = with_extra(parts[0], held_out, config.extra_train, dataset.class_names, **how)
        said = ", ".join(f"{sum(counts)} of {source}" for source, counts in extra.items())
        notes.append(f"extra training images: {said}, added to {len(train.labels)} of the cut")
    counts = count_classes(parts[0].labels, num_classes)
    return Data(
        dataset, chosen, parts[0], parts[1], parts[2], counts, tuple(notes), identity, split_seed, class_order, extra
    )


def fit(config: Config, data: Data) -> Config:
    """Return the configuration with what follows from the data: image size, and epochs where ``min_steps`` asks."""
    size = data.train.images.shape[1] if config.dataset in OWN_IMAGES else config.image_size
    steps = steps_of(len(data.train.labels), config.batch_size)
    return replace(config, image_size=size, epochs=max(config.epochs, -(-config.min_steps // steps)))


def _resized(part: Part, size: int | None) -> Part:
    """Resize a part's images to ``size``, bilinear and antialiased; data sets of files are resized on reading."""
    if size is None or not isinstance(part.images, np.ndarray) or part.images.shape[1:3] == (size, size):
        return part
    planes = torch.from_numpy(part.images).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return replace(part, images=np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy()))


def request_of(config: Config, split_seed: int | None = None, image_size: int | None = None) -> Request:
    """Return what a data set is asked for; by default with the configuration's own split seed and image size."""
    same = ("data_root", "download", "path", "test", "test_frac", "resize", "bits", "allow_leaks")
    same += ("path_column", "label_column", "group_column", "split_column")
    return Request(
        image_size=image_size or config.image_size or 32,
        split_seed=config.split_seed if split_seed is None else split_seed,
        **{key: getattr(config, key) for key in same},
    )


def dataset_of(config: Config, split_seed: int, *, dealt: bool = False) -> Dataset:
    """Return the whole data set of a configuration, before any cut; ``dealt``: its images are dealt into folds."""
    size, statistics = config.image_size or 32, None  # own images only
    if config.dataset in OWN_IMAGES and config.model.name.startswith("timm:"):
        from divaug.models.timm_backbone import input_of

        own_size, *statistics = input_of(config.model.name.removeprefix("timm:"))
        size = config.image_size or own_size
    dataset = DATASETS.build(
        config.dataset, facts={"request": replace(request_of(config, split_seed, size), dealt=dealt)}
    )
    if config.dataset in OWN_IMAGES and config.normalization:
        half_way = len(config.normalization) // 2
        statistics = [config.normalization[:half_way], config.normalization[half_way:]]
        if half_way != len(dataset.mean):
            raise ConfigError(f"normalization has {half_way} channels, but the images have {len(dataset.mean)}")
    return dataset if statistics is None else replace(dataset, mean=statistics[0], std=statistics[1])

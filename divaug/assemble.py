"""From a configuration to built objects: data, loaders, network, optimiser and the stages of training."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from divaug.config import FAMILY_OF, Component, Config
from divaug.data.extra import with_extra
from divaug.data.halves import half
from divaug.data.images import Dataset, Part, Request
from divaug.data.loaders import Loader
from divaug.data.longtail import Cut, cut
from divaug.data.split import carve
from divaug.encoder import CommonSpace, Encoder
from divaug.errors import ConfigError, DataError
from divaug.groups import count_classes, rank_groups
from divaug.latent.monitor import TopKMonitor
from divaug.models.network import Network, build_network
from divaug.optim import build_optimizer
from divaug.registry import DATASETS, MIX, PIXEL
from divaug.train import Stage

OWN_PICTURES = ("image_folder", "csv")


@dataclass(frozen=True)
class Data:
    """The parts that a run uses.

    Attributes:
        dataset: The data set as declared.
        cut: The training cut, before validation pictures were carved off it.
        train, val, test: Parts; val is None without a validation split.
        counts: Training pictures of each class, ``(C,)``, extra ones included.
        notes: Sentences for the user.
        extra: Extra pictures of each class by source; they are in ``train``, behind the cut's.
    """

    dataset: Dataset
    cut: Cut
    train: Part
    val: Part | None
    test: Part
    counts: np.ndarray
    notes: tuple[str, ...]
    extra: dict[str, list[int]] = field(default_factory=dict)

    @property
    def own_pictures(self) -> int:
        """How many of ``train`` are the cut's; extra ones stand behind them."""
        return len(self.train.labels) - sum(sum(counts) for counts in self.extra.values())

    @property
    def manifest(self) -> dict[str, Any]:
        """What a stranger needs to rebuild and check the same parts."""
        names = self.dataset.class_names
        return {
            "class_names": names,
            "counts": self.counts.tolist(),
            "cut_counts": self.cut.counts.tolist(),
            "extra_counts": self.extra,
            "group_counts": self.cut.group_counts.tolist(),
            "groups": {k: [names[c] for c in v] for k, v in rank_groups(self.cut.group_counts).items()},
            "cut_indices_sha256": self.cut.sha256,
            "train_sha256": _sha256(self.train),
            "val_counts": None if self.val is None else count_classes(self.val.labels, len(names)).tolist(),
            "test_counts": count_classes(self.test.labels, len(names)).tolist(),
            "image_shape": list(self.train.images.shape[1:]),
            "mean": list(self.dataset.mean),
            "std": list(self.dataset.std),
            "default_pixel": self.dataset.pixel,
            "notes": list(self.notes),
        }


def _sha256(part: Part) -> str:
    """Hash labels, and pictures where they are in memory, so that a resumed run sees changed data."""
    digest = hashlib.sha256(part.labels.astype("<i8").tobytes())
    if isinstance(part.images, np.ndarray):
        digest.update(np.ascontiguousarray(part.images).tobytes())
    return digest.hexdigest()


def load_data(config: Config) -> Data:
    """Load the data set, make the training cut and carve off the validation part.

    Raises:
        DataError: Data missing, damaged, or a class without a picture.
    """
    dataset = _dataset(config)
    if config.data_part != "all":
        dataset = replace(dataset, train=dataset.train.take(half(dataset.train, config.data_part)))
    num_classes = dataset.num_classes
    if config.profile == "custom" and len(config.counts) != num_classes:
        raise ConfigError(f"counts names {len(config.counts)} classes, {config.dataset} has {num_classes}")
    chosen = cut(
        dataset.train.labels,
        num_classes,
        profile=config.profile,
        factor=config.imbalance_factor,
        counts=config.counts,
        order=config.class_order,
        subset=config.subset,
        seed=config.split_seed,
        max_per_class=config.max_per_class,
    )
    train, val, notes = dataset.train.take(chosen.indices), None, list(dataset.notes)
    if config.val_frac:
        held = carve(train.labels, config.val_frac, config.split_seed, train.groups)
        for c in np.flatnonzero(count_classes(train.labels[~held], num_classes) == 0):
            whole = train.labels == c  # all of the class lies in held-out groups: the groups come back
            held &= ~(whole if train.groups is None else np.isin(train.groups, train.groups[whole]))
        val, train = train.take(held), train.take(~held)
        without = np.flatnonzero(count_classes(val.labels, num_classes) == 0)
        if len(without):
            names = [dataset.class_names[c] for c in without]
            notes.append(f"classes {names} have no validation picture: too few to spare one")
        if not len(val.labels):
            raise DataError(f"a validation share of {config.val_frac} leaves no picture for validation")
    size = config.image_size
    parts = [None if part is None else _resized(part, size) for part in (train, val, dataset.test)]
    assert parts[0] is not None and parts[2] is not None
    extra: dict[str, list[int]] = {}
    if config.extra_train is not None:
        held_out = {"test": parts[2]} | ({} if parts[1] is None else {"validation": parts[1]})
        parts[0], extra = with_extra(parts[0], held_out, config.extra_train, dataset.class_names)
        said = ", ".join(f"{sum(counts)} of {source}" for source, counts in extra.items())
        notes.append(f"extra training pictures: {said}, beside {len(train.labels)} of the cut")
    counts = count_classes(parts[0].labels, num_classes)
    return Data(dataset, chosen, parts[0], parts[1], parts[2], counts, tuple(notes), extra)


def _resized(part: Part, size: int | None) -> Part:
    """Resize a part's pictures to ``size``, bilinear and antialiased; data sets of files have done so while reading."""
    if size is None or not isinstance(part.images, np.ndarray) or part.images.shape[1:3] == (size, size):
        return part
    planes = torch.from_numpy(part.images).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return replace(part, images=np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy()))


def _dataset(config: Config) -> Dataset:
    size, statistics = config.image_size or 32, None  # own pictures only
    if config.dataset in OWN_PICTURES and config.model.name.startswith("timm:"):
        from divaug.models.timm_backbone import input_of

        own_size, *statistics = input_of(config.model.name.removeprefix("timm:"))
        size = config.image_size or own_size
    request = Request(
        config.data_root, config.download, config.path, config.test, size, config.test_frac, config.split_seed
    )
    dataset = DATASETS.build(config.dataset, facts={"request": request})
    return dataset if statistics is None else replace(dataset, mean=statistics[0], std=statistics[1])


def find_device(name: str) -> torch.device:
    """Return the device, ``auto`` being the first CUDA device where there is one.

    Raises:
        ConfigError: No such device, or one that is neither the CPU nor CUDA (mps lacks float64, which counts are in).
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported: auto, cpu, cuda and cuda:N are")
    return device


def has_bf16(device: torch.device) -> bool:
    """Tell from its capabilities whether bfloat16 is fast on the device; nothing is timed."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(config: Config, data: Data) -> Config:
    """Return the configuration with what only data and machine know: precision and picture size."""
    image_size = data.train.images.shape[1] if config.dataset in OWN_PICTURES else config.image_size
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(find_device(config.device)) else "fp32"
    return replace(config, precision=precision, image_size=image_size)


@dataclass(frozen=True)
class Built:
    """Everything that a run trains with."""

    device: torch.device
    bf16: bool
    train: Loader
    val: Loader | None
    test: Loader
    model: Network
    optimizer: torch.optim.Optimizer
    stages: list[Stage]
    monitor: TopKMonitor | None
    space: CommonSpace | None
    facts: "Facts"

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint saves and restores."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "stages": self.stages,
            "monitors": [m for m in (self.monitor, self.space and self.space.monitor) if m is not None],
        }


def build(config: Config, data: Data) -> Built:
    """Build loaders, network, optimiser, monitor and the stages of all phases."""
    device = find_device(config.device)

    def loader(part: Part, batch_size: int) -> Loader:
        fits = isinstance(part.images, np.ndarray)
        return Loader(
            part,
            mean=data.dataset.mean,
            std=data.dataset.std,
            batch_size=batch_size,
            device=device,
            streaming=config.loader == "streaming" or (config.loader == "auto" and (config.workers > 0 or not fits)),
            workers=config.workers,
        )

    train = loader(data.train, config.batch_size)
    model: Any = build_model(config, data.manifest).to(device)
    if hasattr(model.backbone, "initialize"):
        # Never sampled batches, and no extra pictures: every arm starts from the same filters.
        model.backbone.initialize(train.evenly(5000, first=data.own_pictures))
    model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(
        model, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov,
        weight_decay=config.weight_decay, decay_norms=config.decay_norms,
    )  # fmt: skip
    feature_dim = model.backbone.feature_dim
    sizes = tuple(sorted({5, 20, int(data.cut.counts.min())}))
    monitor, space, ks = None, None, (config.top_k, *config.more_top_k)
    if config.encoder is not None:
        encoder, source = Encoder.load(config.encoder), data.dataset
        encoder.fits(data.train, source.mean, source.std, allow_overlap=config.allow_overlap)
        space = CommonSpace(encoder, source.num_classes, ks=ks, sizes=sizes, device=device)
    if config.monitor:
        if max(ks) > feature_dim:
            raise ConfigError(f"top-k must lie in 1 to D = {feature_dim}, got {max(ks)}")
        monitor = TopKMonitor(data.dataset.num_classes, feature_dim, k=ks, sizes=sizes)
    facts = Facts(
        labels=torch.from_numpy(data.train.labels),
        class_counts=torch.from_numpy(data.counts),
        group_counts=torch.from_numpy(data.cut.group_counts),
        num_classes=data.dataset.num_classes,
        class_names=list(data.dataset.class_names),
        feature_dim=feature_dim,
        head_scale=model.head.scale,
        total_steps=config.epochs * train.steps(len(data.train.labels)),
        seed=config.seed,
        default_pixel=PIXEL.build(data.dataset.pixel, facts={}),
    )
    if space is not None:
        facts.late["encoder_features"] = lambda: torch.from_numpy(space.encoder.features(train.in_order()))
    stages = build_stages(config, facts, device)
    return Built(
        device, config.precision == "bf16", train, None if data.val is None else loader(data.val, 500),
        loader(data.test, 500), model, optimizer, stages, monitor, space, facts,
    )  # fmt: skip


def build_model(config: Config, manifest: dict[str, Any]) -> Network:
    """Build the network of a run from its configuration and manifest."""
    height, width, channels = manifest["image_shape"]
    return build_network(
        config.model.name,
        len(manifest["class_names"]),
        channels=channels,
        size=(height, width),
        head=config.head.name,
        head_options=dict(config.head.options),
        seed=config.seed,
        **config.model.options,
    )


class Facts(dict[str, Any]):
    """What only data and model know, by the names that components ask for.

    ``late`` holds functions for what is dear and seldom asked for: computed when it is.
    """

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.late: dict[str, Callable[[], Any]] = {}

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.late

    def __missing__(self, name: str) -> Any:
        self[name] = self.late[name]()
        return self[name]


def build_stages(config: Config, facts: Mapping[str, Any], device: torch.device) -> list[Stage]:
    """Build the components of all phases, by start; a later phase at the same epoch replaces an earlier one.

    A component that a phase does not change is shared; one that it names again keeps the method's hyperparameters.
    A mix with ``start`` and ``stop`` is replaced by none outside them.
    """
    base = {slot: getattr(config, slot) for slot in FAMILY_OF}
    plans: dict[int, dict[str, Component]] = {0: dict(base)}
    current = dict(base)
    for phase in sorted(config.phases, key=lambda phase: phase.start):
        for slot, component in phase.components.items():
            same = component.name == base[slot].name
            current[slot] = (
                Component(component.name, {**base[slot].options, **component.options}) if same else component
            )
        plans[_first_epoch(phase.start, config.epochs)] = dict(current)
    built: dict[str, tuple[Component, Any]] = {}
    stages = []
    for start, components in sorted(plans.items()):
        for slot, component in components.items():
            if slot not in built or built[slot][0] != component:
                made = FAMILY_OF[slot].build(component.name, facts=facts, **component.options)
                learns = ("levels", "state_dict", "load_state_dict") if hasattr(made, "update") else ()
                if missing := [name for name in learns if not hasattr(made, name)]:
                    raise ConfigError(f"{slot} {component.name!r} has update, so it needs {', '.join(missing)} too")
                built[slot] = (
                    component,
                    made.to(device) if isinstance(made, torch.nn.Module | torch.Tensor) else made,
                )
        objects = {slot: pair[1] for slot, pair in built.items()}
        stages.append(Stage(start=start, criterion=objects.pop("loss"), **objects))
    return _within_start_and_stop(stages, config.epochs)


def _within_start_and_stop(stages: list[Stage], epochs: int) -> list[Stage]:
    """Split stages where their mix begins and ends, by its own ``start`` and ``stop``."""
    nothing = MIX.build("none", facts={})
    ends = [stage.start for stage in stages[1:]] + [epochs]
    split = []
    for stage, end in zip(stages, ends, strict=True):
        begin, stop = getattr(stage.mix, "start", 0.0), getattr(stage.mix, "stop", 1.0)
        first, last = _first_epoch(begin, epochs), round(stop * epochs)
        if begin < stop and first >= last:
            raise ConfigError(f"the mix runs from {begin} to {stop} of {epochs} epochs, in which no whole epoch lies")
        for start in sorted({stage.start, first, last}):
            if stage.start <= start < end:
                split.append(replace(stage, start=start, mix=stage.mix if first <= start < last else nothing))
    return split


def _first_epoch(fraction: float, epochs: int) -> int:
    """Return the epoch at which what starts at a fraction of training does: the last one at the latest, if at all."""
    return epochs if fraction == 1 else min(round(fraction * epochs), epochs - 1)


def stage_at(stages: list[Stage], epoch: int) -> Stage:
    """Return the stage that an epoch belongs to."""
    return [stage for stage in stages if stage.start <= epoch][-1]

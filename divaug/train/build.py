"""From a configuration to built objects: loaders, network, optimiser and the stages of training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from divaug.base.errors import ConfigError
from divaug.config.registry import MIX, PIXEL
from divaug.config.schema import FAMILY_OF, Component, Config
from divaug.data.halves import picture_digests
from divaug.data.images import Part
from divaug.data.load import OWN_PICTURES, Data
from divaug.data.loaders import Loader
from divaug.latent.monitor import TopKMonitor
from divaug.latent.space import CommonSpace
from divaug.models.encoder import Encoder
from divaug.models.network import Network, build_network
from divaug.optim.sgd import build_optimizer
from divaug.train.step import Stage


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
        encoder = load_encoder(config.encoder, data, allow_overlap=config.allow_overlap)
        space = CommonSpace(encoder, data.dataset.num_classes, ks=ks, sizes=sizes, device=device)
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


def load_encoder(file: str, data: Data, *, allow_overlap: bool = False) -> Encoder:
    """Read a common encoder and make sure that it can judge runs on these data.

    Args:
        file: The encoder's file.
        data: The data of the runs.
        allow_overlap: Accept training pictures that the encoder was trained on.

    Raises:
        ConfigError: The file is no encoder, or the pictures do not fit it; see ``Encoder.fits``.
    """
    encoder, source = Encoder.load(file), data.dataset
    digests = None if allow_overlap else picture_digests(data.train)
    encoder.fits(data.train.images.shape[1:], source.mean, source.std, digests)
    return encoder


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

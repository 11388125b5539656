"""From a configuration to built objects: loaders, network, optimiser and the stages of training."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from divaug.base.errors import ConfigError, naming
from divaug.config.jobs import processes
from divaug.config.layers import method_label
from divaug.config.registry import OPTIM, PIXEL
from divaug.config.schema import FAMILY_OF, Component, Config, check_frozen, default_of
from divaug.config.tables import overlay, protocol_fingerprint
from divaug.data.halves import image_digests
from divaug.data.images import Part
from divaug.data.load import Data, fit
from divaug.data.loaders import Loader
from divaug.latent.monitor import TopKMonitor
from divaug.latent.space import CommonSpace
from divaug.models.encoder import Encoder
from divaug.models.network import Network, build_network
from divaug.models.weights import load_backbone
from divaug.optim.parameters import parameter_groups
from divaug.train.checkpoint import State
from divaug.train.distributed import own_device
from divaug.train.epoch import shrunk
from divaug.train.evaluate import evaluating
from divaug.train.frozen import freeze
from divaug.train.step import Stage
from divaug.train.threads import threads_for


def find_device(name: str) -> torch.device:
    """Return the device; ``auto`` is the first CUDA device, or the CPU without one.

    Raises:
        ConfigError: No such device, or neither the CPU nor CUDA (mps lacks float64, which the counts need).
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    return device


def device_name(device: torch.device) -> str:
    """Return what a device is called in tables: the card's own name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def has_bf16(device: torch.device) -> bool:
    """Return whether bfloat16 is fast on the device, judged by its capabilities; nothing is timed."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # or the first card is asked
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(config: Config, data: Data) -> Config:
    """Return the configuration with what depends on data and machine: image size, epochs, precision."""
    config = fit(config, data)
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(find_device(config.device)) else "fp32"
    return replace(config, precision=precision)


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
    run: Mapping[str, Any]
    undo: ExitStack

    def close(self) -> None:
        """End the worker processes of the loaders, and give this process its threads back."""
        self.undo.close()

    @property
    def state(self) -> State:
        """What a checkpoint saves and restores."""
        monitors = [m for m in (self.monitor, self.space and self.space.monitor) if m is not None]
        return State(self.model, self.optimizer, self.stages, monitors, self.run)


def build(config: Config, data: Data) -> Built:
    """Build loaders, network, optimiser, monitor and the stages of all phases, and set this process's threads.

    Close what is returned: that ends worker processes and gives the threads back.
    """
    check_frozen(config)
    with ExitStack() as undo:
        return _build(config, data, undo)


def _build(config: Config, data: Data, undo: ExitStack) -> Built:
    device = find_device(own_device(config.device))

    def loader(part: Part) -> Loader:
        return undo.enter_context(closing(loader_of(config, data, part, device)))

    train, test = loader(data.train), loader(data.test)
    val = None if data.val is None else loader(data.val)
    network = build_model(config, data.manifest)
    undo.callback(torch.set_num_threads, torch.get_num_threads())
    if config.threads or (device.type == "cpu" and config.train != "head"):  # features for a head are extracted by all
        height, width, channels = data.manifest["image_shape"]
        rows = min(config.batch_size, len(data.train.labels)) // processes()
        with naming("the network", network.backbone):
            torch.set_num_threads(config.threads or threads_for(network, (channels, height, width), rows))
    if config.early_size is not None and size_at(config, 0) is None:
        raise ConfigError(
            f"early-size has no effect: early-frac {config.early_frac:g} of {config.epochs} epochs is none; drop it"
        )
    if config.early_size is not None and config.early_size >= min(data.manifest["image_shape"][:2]):
        raise ConfigError(f"early-size must be less than the images' {min(data.manifest['image_shape'][:2])} pixels")
    model = initial_network(network, train, data.own_images, config.weights)
    freeze(model, config.train, next(train.evenly(2)))
    if config.early_size is not None:
        _check_early(model, next(train.evenly(2)), config.early_size)
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
        default_pixel=PIXEL.build("none" if config.train == "head" else data.dataset.pixel, facts={}),
    )
    if space is not None:
        facts.late["encoder_features"] = lambda: torch.from_numpy(space.encoder.features(train.in_order()))
    return Built(
        device,
        config.precision == "bf16",
        train,
        val,
        test,
        model,
        build_optimizer(config, model),
        build_stages(config, facts, device),
        monitor,
        space,
        facts,
        {
            "method": method_label(config), "seed": config.seed, "protocol": protocol_fingerprint(config),
            "images": data.manifest["train_sha256"][:8],
        },
        undo.pop_all(),
    )  # fmt: skip


def _check_early(model: Network, images: Float[Tensor, "B ch H W"], size: int) -> None:
    """Refuse an early size that the network fails on: those with a hidden layer take images of one size only."""
    try:
        with torch.no_grad(), evaluating(model):
            model.features(shrunk(images, size))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        name = type(model.backbone).__name__
        raise ConfigError(f"early-size {size}: {name} fails on images of this size ({error}); drop it") from error


def loader_of(config: Config, data: Data, part: Part, device: torch.device) -> Loader:
    """Return a loader of a part's images, normalised as the data set declares."""
    fits = isinstance(part.images, np.ndarray)
    return Loader(
        part,
        mean=data.dataset.mean,
        std=data.dataset.std,
        batch_size=config.batch_size,
        device=device,
        streaming=config.loader == "streaming" or (config.loader == "auto" and (config.workers > 0 or not fits)),
        workers=config.workers,
    )


def initial_network(network: Network, loader: Loader, own: int, weights: str | None = None) -> Network:
    """Move a network to the device of its images and set what depends on them; every training starts this way.

    Neither sampled batches nor extra images are used, so that every arm starts from the same filters.

    Args:
        network: From ``build_network``; changed in place.
        loader: Its training images.
        own: How many of them, counted from the first, belong to the cut.
        weights: A file of weights for the backbone, which then depends on no image.

    Raises:
        ConfigError: The weights cannot be read, or do not fit.
    """
    network.to(loader.device)
    if weights is None:
        network.backbone.initialize(loader.evenly(5000, first=own))
    else:
        load_backbone(cast(torch.nn.Module, network.backbone), weights)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stubs lack it


def build_optimizer(config: Config, network: torch.nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser over a network's trainable parameters."""
    groups = parameter_groups(network, weight_decay=config.weight_decay, decay_norms=config.decay_norms)
    kernels = any(parameter.requires_grad and parameter.ndim == 4 for parameter in network.parameters())
    normalised = any(isinstance(module, torch.nn.BatchNorm2d | torch.nn.SyncBatchNorm) for module in network.modules())
    if config.optim.name == "muon" and kernels and not normalised:
        raise ConfigError(
            "optim muon keeps the norms of kernels, which changes what a network without batch normalisation computes, "
            f"and {config.model.name} has none: use sgd or adamw"
        )
    facts = {"parameters": groups, "lr": config.lr, "momentum": config.momentum, "nesterov": config.nesterov}
    return OPTIM.build(config.optim.name, facts=facts, **config.optim.options)


def size_at(config: Config, epoch: int) -> int | None:
    """Return the side that an epoch's training images are shrunk to, or None; the last epoch is never among them."""
    return config.early_size if epoch < min(round(config.early_frac * config.epochs), config.epochs - 1) else None


def load_encoder(file: str, data: Data, *, allow_overlap: bool = False) -> Encoder:
    """Read a common encoder and make sure that it can judge runs on these data.

    Args:
        file: The encoder's file.
        data: The data of the runs.
        allow_overlap: Accept training images that the encoder was trained on.

    Raises:
        ConfigError: The file is not an encoder, or the images do not fit it; see ``Encoder.fits``.
    """
    encoder, source = Encoder.load(file), data.dataset
    digests = None if allow_overlap else image_digests(data.train)
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
    """Values known only from data and model, by the names that components ask for.

    ``late`` holds functions for values that are expensive and rarely needed; they run on first use.
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
    """Build the components of all phases, by first epoch; a later phase at the same epoch replaces an earlier one.

    A component that a phase does not change is shared; one that it names again keeps the method's hyperparameters.
    Before its ``start`` and from its ``stop`` on, a component is replaced by the default of its slot.
    """
    built: dict[tuple[str, str, str], Any] = {}

    def component(slot: str, wanted: Component) -> Any:
        key = slot, wanted.name, repr(sorted(wanted.options.items()))
        if key not in built:
            made = FAMILY_OF[slot].build(wanted.name, facts=facts, **wanted.options)
            if slot == "class_weights":
                _check_class_weights(wanted.name, made, facts["num_classes"])
            if isinstance(made, torch.nn.Module) and any(p.requires_grad for p in made.parameters()):
                raise ConfigError(
                    f"{slot} {wanted.name!r} has parameters to be learned, but only the network's are trained; put "
                    "them into a head or backbone of your own, or make them buffers"
                )
            built[key] = made.to(device) if isinstance(made, torch.nn.Module | torch.Tensor) else made
        return built[key]

    stages: list[Stage] = []
    for start, wanted in _plan(config):
        objects = {slot: component(slot, part) for slot, part in wanted.items()}
        if objects["mix"].prob == 1 and getattr(objects["feature"], "unmixed_only", False):
            name = wanted["mix"].name
            less = "give --mix.prob 0.5, or " if "prob" in FAMILY_OF["mix"].entry(name).options else ""
            raise ConfigError(
                f"feature {wanted['feature'].name} learns from rows that are not mixed, and mix {name} mixes every "
                f"step: {less}let one of them start when the other stops"
            )
        stages.append(Stage(start=start, criterion=objects.pop("loss"), **objects))
    return stages


def _check_class_weights(name: str, weights: Any, num_classes: int) -> None:
    """Refuse weights with which the loss would be undefined, or of another number of classes.

    Raises:
        ConfigError: They are none, have another shape, are negative, not finite or all 0.
    """
    if weights is None:
        return
    if not torch.is_tensor(weights) or weights.shape != (num_classes,) or not weights.is_floating_point():
        what = f"{weights.dtype} {tuple(weights.shape)}" if torch.is_tensor(weights) else type(weights).__name__
        raise ConfigError(f"class_weights {name!r} returned {what}; one float per class ({num_classes}) is needed")
    if not torch.isfinite(weights).all() or (weights < 0).any() or not 1e-30 < weights.max() < 1e30:
        raise ConfigError(
            f"class_weights {name!r} must be finite, >= 0 and not all 0 (the largest between 1e-30 and 1e30), got "
            f"{weights.tolist()[:10]}"
        )


def _plan(config: Config) -> list[tuple[int, dict[str, Component]]]:
    """Return the components that become active, by epoch."""
    base: dict[str, Component] = {slot: getattr(config, slot) for slot in FAMILY_OF}
    changes = {0: base}
    current = dict(base)
    for phase in sorted(config.phases, key=lambda phase: phase.start):
        current |= {slot: overlay(base[slot], part) for slot, part in phase.components.items()}
        changes[_first_epoch(phase.start, config.epochs)] = dict(current)
    ends = [*list(changes)[1:], config.epochs]
    plan: dict[int, dict[str, Component]] = {}
    for (first, parts), end in zip(changes.items(), ends, strict=True):
        spans = {slot: _span(slot, part, config.epochs) for slot, part in parts.items()}
        for epoch in sorted({first, *(edge for span in spans.values() for edge in span if first < edge < end)}):
            plan[epoch] = {
                slot: part if spans[slot][0] <= epoch < spans[slot][1] else default_of(slot)
                for slot, part in parts.items()
            }
    return sorted(plan.items())


def _span(slot: str, part: Component, epochs: int) -> tuple[int, int]:
    """Return a component's first active epoch and the epoch at which it stops."""
    first, last = _first_epoch(part.start, epochs), round(part.stop * epochs)
    if part.start < part.stop and first >= last:
        raise ConfigError(
            f"the {slot} runs from {part.start} to {part.stop} of {epochs} epochs, in which no whole epoch lies"
        )
    return first, last


def _first_epoch(fraction: float, epochs: int) -> int:
    """Return the epoch of a start at a fraction of training: the last one at the latest."""
    return epochs if fraction == 1 else min(round(fraction * epochs), epochs - 1)


def stage_at(stages: list[Stage], epoch: int) -> Stage:
    """Return the stage of an epoch."""
    return [stage for stage in stages if stage.start <= epoch][-1]

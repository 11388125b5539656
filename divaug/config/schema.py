"""The configuration of one run: a flat, frozen, typed dataclass whose keys are the flags and the TOML keys."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from typing import Any, get_type_hints

from divaug.base.errors import ConfigError
from divaug.config.registry import CLASS_WEIGHTS, DATASETS, FEATURE, HEADS, LOSSES, MIX, MODELS, OPTIM, PIXEL, SAMPLERS

FAMILY_OF = {
    "sampler": SAMPLERS, "pixel": PIXEL, "mix": MIX, "feature": FEATURE, "loss": LOSSES,
    "class_weights": CLASS_WEIGHTS,
}  # fmt: skip


@dataclass(frozen=True)
class Component:
    """A registered name, its hyperparameters, and when it is active.

    Attributes:
        name: Registered name.
        options: Hyperparameters.
        start: Fraction of training from which it is active, in [0, stop].
        stop: Fraction of training from which it no longer is, in [start, 1]. Outside the slot has its default.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    start: float = 0.0
    stop: float = 1.0

    def table(self) -> dict[str, Any]:
        """Return the TOML table: name, hyperparameters, and start and stop where they are not 0 and 1."""
        when = {"start": self.start} if self.start != 0.0 else {}
        when |= {"stop": self.stop} if self.stop != 1.0 else {}
        return {"name": self.name, **self.options, **when}


@dataclass(frozen=True)
class Phase:
    """Components that take over from a fraction of training on.

    Attributes:
        start: Fraction in [0, 1); the phase starts at epoch round(start * epochs), counted from 0, and
            at the last one at the latest.
        components: Slot (sampler, pixel, mix, feature, loss, class_weights) to component.
    """

    start: float
    components: Mapping[str, Component]

    def table(self) -> dict[str, Any]:
        """Return the TOML table of the phase."""
        return {"from": self.start, **{slot: c.table() for slot, c in self.components.items()}}


_NO_NEUTRAL = object()


def _key(
    group: str,
    help: str,
    default: Any,
    *,
    kind: str = "protocol",
    choices: tuple[str, ...] = (),
    neutral: Any = _NO_NEUTRAL,
) -> Any:
    """Declare a key.

    kind: protocol (fingerprinted), method (what is compared), seed, or where (no effect). A key that is added later has
    a ``neutral`` value, the behaviour before it existed: at that value it is left out of the fingerprint, so that old
    runs and rows stay what they were.
    """
    metadata = {"group": group, "help": help, "kind": kind, "choices": choices, "neutral": neutral}
    if isinstance(default, Component | tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """One run. Every key is a flag (dashes for underscores), a TOML key and a keyword of this class.

    Raises:
        ConfigError: A value is out of range, a component or one of its hyperparameters unknown.
    """

    dataset: str = _key("data", "data set (--list datasets)", "cifar10")
    path: str | None = _key("data", "image_folder, csv: the folder of class folders, or the CSV", None)
    test: str | None = _key("data", "image_folder, csv: test pictures, a folder or CSV of their own", None)
    image_size: int | None = _key("data", "side in pixels to which pictures are resized", None)
    test_frac: float = _key("data", "share carved off for testing where nothing else says what to test on", 0.2)
    data_root: str | None = _key("data", "the only folder to look for the data in", None, kind="where")
    download: bool = _key("data", "download missing data into the user cache", True, kind="where")
    profile: str = _key(
        "data", "shape of the training cut", "exp",
        choices=("exp", "step", "custom", "balanced", "balanced_small", "natural"),
    )  # fmt: skip
    imbalance_factor: float = _key("data", "largest over smallest class of the cut, >= 1", 100.0)
    counts: tuple[int, ...] = _key("data", "profile custom: training pictures of each class", ())
    class_order: str = _key("data", "which class is large: native, reversed or permuted:SEED", "native")
    subset: str = _key(
        "data", "how pictures are picked: as LDAM-DRW does, or divaug's nested draw", "literature",
        choices=("literature", "nested"),
    )  # fmt: skip
    split_seed: int = _key("data", "seed of the training cut and of carved splits", 0)
    val_frac: float = _key("data", "share of the cut carved off for validation, in [0, 1)", 0.0)
    max_per_class: int | None = _key(
        "data", "treat the data set as having at most so many training pictures a class", None
    )
    data_part: str = _key(
        "data", "half of the training pictures to use: b is what common encoders learn on by default", "all",
        choices=("all", "a", "b"),
    )  # fmt: skip
    loader: str = _key(
        "data",
        "resident arrays or streaming workers",
        "auto",
        kind="where",
        choices=("auto", "resident", "streaming"),
    )
    workers: int = _key("data", "worker processes; more than 0 chooses the streaming loader", 0, kind="where")

    method: str = _key("method", "named method (--list methods)", "erm", kind="method")
    sampler: Component = _key("method", "which pictures an epoch visits", Component("uniform"), kind="method")
    pixel: Component = _key("method", "augmentation of one picture", Component("default"), kind="method")
    mix: Component = _key("method", "mixing of pictures", Component("none"), kind="method")
    feature: Component = _key("method", "augmentation of embeddings", Component("none"), kind="method")
    loss: Component = _key("method", "loss", Component("ce"), kind="method")
    class_weights: Component = _key("method", "weights of classes in the loss", Component("none"), kind="method")
    phases: tuple[Phase, ...] = _key("method", "[[phase]] tables (TOML only)", (), kind="method")
    head: Component = _key("method", "classifier (linear, cosine)", Component("linear"), kind="method")

    extra_train: str | None = _key(
        "method", "CSV (path, label, source) of pictures to join the training cut; every method runs without and with",
        None, kind="method",
    )  # fmt: skip

    preset: str = _key("model", "a fixed set of model and optimisation keys (fast, paper)", "fast")
    model: Component = _key("model", "network (--list models) or timm:NAME", Component("whitened_cnn"))
    epochs: int = _key("optimisation", "epochs", 10)
    optim: Component = _key("optimisation", "optimiser (--list optim)", Component("sgd"), neutral=Component("sgd"))
    batch_size: int = _key("optimisation", "rows a step", 128)
    lr: float = _key("optimisation", "peak learning rate", 0.2)
    momentum: float = _key("optimisation", "momentum of SGD", 0.9)
    nesterov: bool = _key("optimisation", "Nesterov momentum", True)
    weight_decay: float = _key("optimisation", "weight decay", 5e-4)
    decay_norms: bool = _key("optimisation", "decay biases and normalisation layers too", False)
    schedule: str = _key(
        "optimisation", "learning rate after the warm-up", "triangular",
        choices=("constant", "cosine", "step", "triangular"),
    )  # fmt: skip
    warmup_frac: float = _key("optimisation", "share of training with a rising learning rate", 0.1)
    milestones: tuple[float, ...] = _key("optimisation", "schedule step: fractions of training at a drop", (0.8, 0.9))
    drop: float = _key("optimisation", "schedule step: factor at each milestone", 0.01)
    precision: str = _key(
        "optimisation", "bf16 autocast where the processor has it", "auto", choices=("auto", "bf16", "fp32")
    )
    device: str = _key("optimisation", "auto, cpu, cuda or cuda:N", "auto", kind="where")

    monitor: bool = _key("latent monitor", "follow the latent diversity of every class", True)
    monitor_at: tuple[float, ...] = _key(
        "latent monitor",
        "fractions of training at which clean training pictures are measured",
        (0.0, 0.5, 1.0),
    )
    top_k: int = _key("latent monitor", "K of the top-K embeddings", 10)
    more_top_k: tuple[int, ...] = _key("latent monitor", "further K, counted beside it", ())
    encoder: str | None = _key("latent monitor", "common encoder in whose space everything is measured again", None)
    allow_overlap: bool = _key(
        "latent monitor", "accept an encoder that has seen training pictures", False, kind="where"
    )
    eval_every: int = _key("latent monitor", "epochs between evaluations; the last epoch always is", 1)

    seed: int = _key("run", "training seed", 0, kind="seed")
    output_dir: str = _key("run", "folder of all runs", "runs", kind="where")
    experiment: str | None = _key("run", "name of the experiment, taken as it is", None, kind="where")
    resume: str = _key("run", "auto: go on where the run stopped; never: refuse; or a run folder", "auto", kind="where")
    tracking: str = _key("run", "auto (MLflow in the output folder), off, or a tracking URI", "auto", kind="where")
    progress: str = _key("run", "progress on stderr", "auto", kind="where", choices=("auto", "bar", "lines", "none"))
    imports: tuple[str, ...] = _key("run", "files or modules with components of your own", (), kind="where")

    def __post_init__(self) -> None:
        for name, ok, rule in (
            ("imbalance_factor", self.imbalance_factor >= 1, "must be >= 1"),
            ("val_frac", 0 <= self.val_frac < 1, "must lie in [0, 1)"),
            ("test_frac", 0 < self.test_frac < 1, "must lie in (0, 1)"),
            ("image_size", self.image_size is None or self.image_size >= 4, "must be >= 4"),
            ("max_per_class", self.max_per_class is None or self.max_per_class >= 1, "must be >= 1"),
            ("class_order", re.fullmatch(r"native|reversed|permuted:\d+", self.class_order),
             "must be native, reversed or permuted:SEED"),
            ("counts", bool(self.counts) == (self.profile == "custom"), "go with profile custom, and only with it"),
            ("counts", all(n >= 1 for n in self.counts), "must be >= 1: a class with no image cannot be learned"),
            ("epochs", self.epochs >= 1, "must be >= 1"),
            ("batch_size", self.batch_size >= 2, "must be >= 2 (batch normalisation)"),
            ("lr", self.lr > 0, "must be > 0"),
            ("momentum", 0 <= self.momentum < 1, "must lie in [0, 1)"),
            ("nesterov", not (self.nesterov and self.momentum == 0), "needs momentum > 0 (--no-nesterov without)"),
            ("weight_decay", self.weight_decay >= 0, "must be >= 0"),
            ("warmup_frac", 0 <= self.warmup_frac < 1, "must lie in [0, 1)"),
            ("milestones", all(0 < m < 1 for m in self.milestones), "must lie in (0, 1)"),
            ("drop", 0 < self.drop <= 1, "must lie in (0, 1]"),
            ("monitor_at", all(0 <= m <= 1 for m in self.monitor_at), "must lie in [0, 1]"),
            ("top_k", self.top_k >= 1, "must be >= 1"),
            ("more_top_k", all(k >= 1 and k != self.top_k for k in self.more_top_k), "must be >= 1 and not top-k"),
            ("eval_every", self.eval_every >= 1, "must be >= 1"),
            ("workers", self.workers >= 0, "must be >= 0"),
            ("workers", not (self.workers and self.loader == "resident"), "are for the streaming loader"),
            ("split_seed", self.split_seed >= 0, "must be >= 0"),
            ("seed", self.seed >= 0, "must be >= 0"),
        ):  # fmt: skip
            if not ok:
                raise ConfigError(f"{name.replace('_', '-')} {rule}, got {getattr(self, name)!r}")
        DATASETS.entry(self.dataset)
        HEADS.check(self.head.name, self.head.options)
        OPTIM.check(self.optim.name, self.optim.options)
        if not self.model.name.startswith("timm:"):  # timm's own names and keywords are checked when it is built
            MODELS.check(self.model.name, self.model.options)
        for slot, registry in FAMILY_OF.items():
            for component in (
                getattr(self, slot),
                *(p.components[slot] for p in self.phases if slot in p.components),
            ):
                registry.check(component.name, component.options)
                if not 0 <= component.start <= component.stop <= 1:
                    raise ConfigError(
                        f"{slot}: start and stop must satisfy 0 <= start <= stop <= 1, got {component.start} and "
                        f"{component.stop}"
                    )
        for slot in ("model", "head", "optim"):
            if (component := getattr(self, slot)).table() != {"name": component.name, **component.options}:
                raise ConfigError(f"{slot} cannot start or stop within training; {', '.join(FAMILY_OF)} can")
        for loss in (self.loss, *(p.components["loss"] for p in self.phases if "loss" in p.components)):
            if loss.name == "ldam" and self.head.name != "cosine":
                raise ConfigError(
                    f"loss 'ldam' needs the cosine head, got {self.head.name!r}: its margins are cosines; "
                    "add --model.head cosine"
                )


def needs_encoder(config: Config) -> str | None:
    """Return the component that compares pictures in the space of a common encoder, in words, or None."""
    for slot, registry in FAMILY_OF.items():
        for component in (getattr(config, slot), *(p.components[slot] for p in config.phases if slot in p.components)):
            if "encoder_features" in registry.facts_of(component.name, component.options):
                return f"{slot} {component.name!r}"
    return None


@lru_cache
def config_fields() -> dict[str, Field[Any]]:
    """Return the fields of Config by key."""
    return {f.name: f for f in fields(Config)}


@lru_cache
def key_types() -> dict[str, Any]:
    """Return the type of every key."""
    return get_type_hints(Config)


def default_of(key: str) -> Any:
    """Return a key's default."""
    f = config_fields()[key]
    return f.default_factory() if f.default_factory is not MISSING else f.default


def keys_of_kind(*kinds: str) -> list[str]:
    """Return the keys of the given kinds (protocol, method, seed, where)."""
    return [key for key, f in config_fields().items() if f.metadata["kind"] in kinds]

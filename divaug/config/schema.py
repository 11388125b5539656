"""The configuration of one run: a flat, frozen, typed dataclass whose keys are the flags and the TOML keys."""

import hashlib
import json
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

from divaug.base.errors import ConfigError, suggestion
from divaug.config.registry import CLASS_WEIGHTS, DATASETS, FEATURE, HEADS, LOSSES, MIX, MODELS, PIXEL, SAMPLERS

FAMILY_OF = {
    "sampler": SAMPLERS, "pixel": PIXEL, "mix": MIX, "feature": FEATURE, "loss": LOSSES,
    "class_weights": CLASS_WEIGHTS,
}  # fmt: skip


@dataclass(frozen=True)
class Component:
    """A registered name and its hyperparameters."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Return the TOML table: name first, then the hyperparameters."""
        return {"name": self.name, **self.options}


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


def _key(group: str, help: str, default: Any, *, kind: str = "protocol", choices: tuple[str, ...] = ()) -> Any:
    """Declare a key. kind: protocol (fingerprinted), method (what is compared), seed, or where (no effect)."""
    metadata = {"group": group, "help": help, "kind": kind, "choices": choices}
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
        if not self.model.name.startswith("timm:"):  # timm's own names and keywords are checked when it is built
            MODELS.check(self.model.name, self.model.options)
        for slot, registry in FAMILY_OF.items():
            for component in (
                getattr(self, slot),
                *(p.components[slot] for p in self.phases if slot in p.components),
            ):
                registry.check(component.name, component.options)
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


def from_layers(layers: Iterable[tuple[str, Mapping[str, Any]]]) -> Config:
    """Merge tables of plain TOML values, later over earlier, and build a Config.

    A component given without a name, or with the name it already has, keeps the hyperparameters of earlier layers;
    another name drops them.

    Args:
        layers: Pairs of a name for error messages ("preset fast", "flags") and a table.

    Raises:
        ConfigError: Unknown key, wrong type or wrong value.
    """
    values: dict[str, Any] = {}
    for where, table in layers:
        for key, value in flatten(table, where).items():
            label = f"{where}: {key.replace('_', '-')}"
            if key_types()[key] is Component:
                values[key] = _overlay(values.get(key, default_of(key)), value, label)
            else:
                values[key] = convert(value, key_types()[key], label)
            choices = config_fields()[key].metadata["choices"]
            if choices and values[key] not in choices:
                raise ConfigError(f"{label}: unknown {value!r}; {suggestion(str(value), choices)}")
    return Config(**values)


def _overlay(below: Component, value: Any, where: str) -> Component:
    if isinstance(value, Mapping) and "name" not in value:
        value = {"name": below.name, **value}
    above = convert(value, Component, where)
    return Component(above.name, {**below.options, **above.options}) if above.name == below.name else above


def flatten(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Map TOML spelling to keys: ``[[phase]]``, ``import`` and ``head`` inside ``[model]``; refuse unknown keys."""
    flat = {}
    for raw, value in table.items():
        key = {"phase": "phases", "import": "imports"}.get(raw, raw.replace("-", "_"))
        if key not in config_fields():
            raise ConfigError(f"{where}: unknown key {raw!r}; {suggestion(key, config_fields())}")
        if key == "model" and isinstance(value, Mapping) and "head" in value:
            flat["head"] = value["head"]
            value = {k: v for k, v in value.items() if k != "head"}  # noqa: PLW2901
            if not value:
                continue
        flat[key] = value
    return flat


def convert(value: Any, kind: Any, where: str) -> Any:
    """Check a plain value against a type of Config and convert it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is types.UnionType:
        if value is None:
            return None
        return convert(value, next(a for a in arguments if a is not type(None)), where)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(convert(item, arguments[0], where) for item in value)
    if kind is Component:
        return _component(value, where)
    if kind is Phase:
        return _phase(value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value


def _component(value: Any, where: str) -> Component:
    if isinstance(value, Component):
        return value
    if isinstance(value, str):
        return Component(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(f"{where}: expected a name or a table with a name, got {value!r}")
    return Component(value["name"], {k.replace("-", "_"): v for k, v in value.items() if k != "name"})


def _phase(value: Any, where: str) -> Phase:
    if isinstance(value, Phase):
        return value
    if not isinstance(value, Mapping) or "from" not in value:
        raise ConfigError(f"{where}: a phase needs 'from', a fraction of training; got {value!r}")
    start = convert(value["from"], float, f"{where}: from")
    if not 0 <= start < 1:
        raise ConfigError(f"{where}: from must lie in [0, 1), got {start}")
    components = {}
    for raw, item in value.items():
        if raw != "from":
            slot = raw.replace("-", "_")
            if slot not in FAMILY_OF:
                raise ConfigError(f"{where}: a phase cannot change {raw!r}; {suggestion(slot, FAMILY_OF)}")
            components[slot] = _component(item, f"{where}: {raw}")
    return Phase(start, components)


def to_table(config: Config) -> dict[str, Any]:
    """Return the configuration as plain TOML values; keys that are None are left out."""
    table: dict[str, Any] = {}
    for key in config_fields():
        value = getattr(config, key)
        if isinstance(value, Component):
            value = value.table()
        elif isinstance(value, tuple):
            value = [item.table() if isinstance(item, Phase) else item for item in value]
        if value is not None:
            table[{"phases": "phase", "imports": "import"}.get(key, key)] = value
    table["model"]["head"] = table.pop("head")
    if not table["phase"]:
        del table["phase"]
    return table


def dump(config: Config) -> str:
    """Return the configuration as TOML that ``--config`` runs again."""
    import tomli_w

    return tomli_w.dumps(to_table(config))


def keys_of_kind(*kinds: str) -> list[str]:
    """Return the keys of the given kinds (protocol, method, seed, where)."""
    return [key for key, f in config_fields().items() if f.metadata["kind"] in kinds]


def digest(values: Any, length: int = 8) -> str:
    """Return a short SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:length]


def protocol_fingerprint(config: Config) -> str:
    """Return a hash of every key that two runs must share to be compared fairly."""
    table = to_table(config) | {"model": config.model.table()}  # the head belongs to the method
    if config.encoder is not None:
        table["encoder"] = config.encoder.rsplit("/", 1)[-1]  # its name has a hash of its content; folders differ
    return digest({key: table.get(key) for key in keys_of_kind("protocol")})

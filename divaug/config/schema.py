"""The configuration of one run: a flat, frozen, typed dataclass whose keys are the flags and the TOML keys."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from typing import Any, get_type_hints

from divaug.base.errors import ConfigError
from divaug.config.registry import (
    CLASS_WEIGHTS,
    DATASETS,
    FEATURE,
    HEADS,
    LOSSES,
    MIX,
    MODELS,
    OPTIM,
    PIXEL,
    SAMPLERS,
    not_finite,
)

OWN_IMAGES = ("image_folder", "csv")  # data sets that are a path of the user's
TABLES = (".csv", ".tsv", ".txt", ".lst", ".list")  # files that name images
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
        stop: Fraction of training at which it ends, in [start, 1]. Outside this span the slot has its default.
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
    """Components that take over at a fraction of training.

    Attributes:
        start: Fraction in [0, 1); the phase starts at epoch round(start * epochs), counted from 0, and
            no later than the last epoch.
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

    kind: protocol (fingerprinted), method (what is compared), seed, or where (no effect). A key that was
    added later has a ``neutral`` value, which gives the behaviour before it existed. At that value the key is left out
    of the fingerprint, so that old runs and rows keep theirs.
    """
    metadata = {"group": group, "help": help, "kind": kind, "choices": choices, "neutral": neutral}
    if isinstance(default, Component | tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """One run. Every key is a TOML key and a keyword of this class, and nearly all are flags (dashes for underscores).

    Raises:
        ConfigError: A value is out of range, or a component or one of its hyperparameters is unknown.
    """

    dataset: str = _key("data", "data set (--list datasets)", "cifar10")
    path: str | None = _key("data", "image_folder, csv: the folder of class folders, or the CSV", None, kind="where")
    test: str | None = _key("data", "image_folder, csv: a folder or CSV of test images", None, kind="where")
    path_column: str = _key("data", "csv: the column of image files", "path", kind="where")
    label_column: str = _key("data", "csv: the column of class names", "label", kind="where")
    group_column: str = _key("data", "csv: the column of groups (patient, slide, camera)", "group", kind="where")
    split_column: str = _key("data", "csv: the column of parts (train, val, test)", "split", kind="where")
    allow_leaks: bool = _key("data", "accept test images that are training images too", False, kind="where")
    image_size: int | None = _key("data", "side of the images in pixels, after resizing", None)
    resize: str = _key(
        "data", "own images that are not square", "stretch", choices=("stretch", "crop", "pad"), neutral="stretch"
    )
    test_frac: float = _key("data", "share held out for testing when no test part is given", 0.2)
    bits: int = _key("data", "own images: bits in use of 16-bit grey", 16, neutral=16)
    data_root: str | None = _key(
        "data", "look for the data in this folder only; csv: the folder that paths start from", None, kind="where"
    )
    download: bool = _key("data", "download missing data into the user cache", True, kind="where")
    profile: str = _key(
        "data", "class sizes of the training cut", "exp",
        choices=("exp", "linear", "step", "custom", "balanced", "balanced_small", "natural"),
    )  # fmt: skip
    imbalance_factor: float = _key("data", "size of the largest class over that of the smallest, >= 1", 100.0)
    counts: tuple[int, ...] = _key("data", "profile custom: training images per class", ())
    class_order: str = _key("data", "which classes are large: native, reversed or permuted:SEED", "native")
    subset: str = _key(
        "data", "how images are chosen: by divaug's nested draw, or the one subset of LDAM-DRW", "nested",
        choices=("nested", "literature"),
    )  # fmt: skip
    vary: str = _key(
        "data", "what a seed varies beside weights and draws: the cut (images and class order), its images, or nothing",
        "cut", choices=("cut", "images", "init"), neutral="init",
    )  # fmt: skip
    split_seed: int = _key("data", "seed of the training cut and of held-out parts; vary cut adds the seed", 0)
    val_frac: float = _key("data", "share of the cut held out for validation, in [0, 1)", 0.0)
    holdout: int = _key(
        "data", "images per class held out before the cut, as a balanced validation part: to explore settings",
        0, neutral=0,
    )  # fmt: skip
    max_per_class: int | None = _key("data", "use at most this many training images per class of the data set", None)
    data_part: str = _key(
        "data", "part of the training images to use: a half, or a quarter of half b; common encoders learn on b",
        "all",
        choices=("all", "a", "b", "b1", "b2"),
    )  # fmt: skip
    loader: str = _key(
        "data",
        "resident arrays or streaming workers",
        "auto",
        kind="where",
        choices=("auto", "resident", "streaming"),
    )
    workers: int = _key("data", "worker processes; more than 0 selects the streaming loader", 0, kind="where")

    method: str = _key("method", "named method (--list methods)", "erm", kind="method")
    sampler: Component = _key("method", "which images an epoch visits", Component("uniform"), kind="method")
    pixel: Component = _key("method", "augmentation of single images", Component("default"), kind="method")
    mix: Component = _key("method", "mixing of images", Component("none"), kind="method")
    feature: Component = _key("method", "augmentation of embeddings", Component("none"), kind="method")
    loss: Component = _key("method", "loss", Component("ce"), kind="method")
    class_weights: Component = _key("method", "weights of classes in the loss", Component("none"), kind="method")
    phases: tuple[Phase, ...] = _key("method", "[[phase]] tables (TOML only)", (), kind="method")
    head: Component = _key("method", "classifier (linear, cosine)", Component("linear"), kind="method")

    extra_train: str | None = _key(
        "method", "CSV (path, label, source) of extra training images; every method runs without and with them",
        None, kind="method",
    )  # fmt: skip

    preset: str = _key("model", "a fixed set of model and optimisation keys (--list presets)", "fast")
    model: Component = _key("model", "network (--list models) or timm:NAME", Component("whitened_cnn"))
    weights: str | None = _key(
        "model", "file of pretrained weights of the network (safetensors, pth); its classifier is left out", None,
        kind="where",
    )  # fmt: skip
    weights_digest: str | None = _key("model", "what the weights are; divaug sets it", None, neutral=None)
    normalization: tuple[float, ...] = _key(
        "model", "own images: channel means, then deviations, of 0 to 1; else those of pretrained weights or images",
        (), neutral=(),
    )  # fmt: skip
    train: str = _key(
        "model", "what of a pretrained network is trained: full, head (on features extracted once) or last:N blocks",
        "full", neutral="full",
    )  # fmt: skip
    epochs: int = _key("optimisation", "epochs", 32)
    min_steps: int = _key("optimisation", "train more epochs where they have fewer steps than this", 0, neutral=0)
    optim: Component = _key("optimisation", "optimiser (--list optim)", Component("sgd"), neutral=Component("sgd"))
    batch_size: int = _key("optimisation", "rows per step", 128)
    early_size: int | None = _key(
        "optimisation", "shorter side in pixels that images are shrunk to in the first epochs, which cost less",
        None, neutral=None,
    )  # fmt: skip
    early_frac: float = _key(
        "optimisation", "share of the epochs at early-size, in (0, 1); never the last", 0.5, neutral=0.5
    )
    lr: float = _key("optimisation", "peak learning rate", 0.2)
    momentum: float = _key("optimisation", "momentum of SGD", 0.9)
    nesterov: bool = _key("optimisation", "Nesterov momentum", True)
    weight_decay: float = _key("optimisation", "weight decay", 5e-4)
    decay_norms: bool = _key("optimisation", "decay biases and normalisation layers too", False)
    schedule: str = _key(
        "optimisation", "learning rate after the warm-up", "triangular",
        choices=("constant", "cosine", "step", "triangular"),
    )  # fmt: skip
    warmup_frac: float = _key("optimisation", "share of training in which the learning rate rises", 0.1)
    milestones: tuple[float, ...] = _key("optimisation", "schedule step: fractions of training at a drop", (0.8, 0.9))
    drop: float = _key("optimisation", "schedule step: factor at each milestone", 0.01)
    precision: str = _key(
        "optimisation",
        "bf16 autocast where the processor supports it; fp32 leaves convolutions on CUDA to torch, which takes TF32",
        "auto",
        choices=("auto", "bf16", "fp32"),
    )
    device: str = _key("optimisation", "auto, cpu, cuda or cuda:N", "auto", kind="where")

    monitor: bool = _key("latent monitor", "measure the latent diversity of every class", True)
    monitor_at: tuple[float, ...] = _key(
        "latent monitor",
        "fractions of training at which clean training images are measured",
        (0.0, 0.5, 1.0),
    )
    top_k: int = _key("latent monitor", "K of the top-K embeddings", 10)
    more_top_k: tuple[int, ...] = _key("latent monitor", "further values of K to count", ())
    encoder: str | None = _key("latent monitor", "common encoder: measure everything in its space too", None)
    allow_overlap: bool = _key("latent monitor", "accept an encoder that has seen training images", False, kind="where")
    eval_every: int = _key("latent monitor", "epochs between evaluations; the last epoch is always evaluated", 1)

    seed: int = _key("run", "training seed", 0, kind="seed")
    output_dir: str = _key("run", "folder of all runs", "runs", kind="where")
    experiment: str | None = _key("run", "name of the experiment, used unchanged", None, kind="where")
    resume: str = _key("run", "auto: continue a stopped run; never: refuse; or a run folder", "auto", kind="where")
    tracking: str = _key("run", "auto (MLflow in the output folder), off, or a tracking URI", "auto", kind="where")
    threads: int = _key("run", "threads on the CPU; 0 or auto: by the size of the run's steps", 0, kind="where")
    progress: str = _key("run", "progress on stderr", "auto", kind="where", choices=("auto", "bar", "lines", "none"))
    imports: tuple[str, ...] = _key("run", "files or modules with your own components", (), kind="where")

    def __post_init__(self) -> None:
        for name in config_fields():
            value = getattr(self, name)
            if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
                raise ConfigError(f"{name.replace('_', '-')} must be UTF-8 text, got {value!a}; rename it")
            if not_finite(value) or (isinstance(value, Component) and not_finite(value.options)):
                raise ConfigError(f"{name.replace('_', '-')} must be finite, got {value!r}")
        for name, ok, rule in (
            ("imbalance_factor", self.imbalance_factor >= 1, "must be >= 1"),
            ("val_frac", 0 <= self.val_frac < 1, "must lie in [0, 1)"),
            ("holdout", self.holdout >= 0, "must be >= 0"),
            ("holdout", not (self.holdout and self.val_frac), "and val-frac both make the validation part: give one"),
            ("test_frac", 0 < self.test_frac < 1, "must lie in (0, 1)"),
            ("image_size", self.image_size is None or self.image_size >= 4, "must be >= 4"),
            ("bits", 8 <= self.bits <= 16, "must lie in 8 to 16"),
            ("max_per_class", self.max_per_class is None or self.max_per_class >= 1, "must be >= 1"),
            ("class_order", re.fullmatch(r"native|reversed|permuted:[0-9]{1,9}", self.class_order),
             "must be native, reversed or permuted:SEED"),
            ("counts", bool(self.counts) == (self.profile == "custom"), "go with profile custom, which needs them"),
            ("counts", all(n >= 1 for n in self.counts), "must be >= 1: a class with no image cannot be learned"),
            ("train", re.fullmatch(r"full|head|last:[0-9]{1,4}", self.train), "must be full, head or last:N"),
            ("train", self.train == "full" or is_pretrained(self), "needs --weights FILE or --model.pretrained true"),
            ("normalization", len(self.normalization) in (0, 2, 6) and all(
                s > 0 for s in self.normalization[len(self.normalization) // 2 :]),
             "must be means, then deviations > 0, of one or three channels"),
            ("epochs", self.epochs >= 1, "must be >= 1"),
            ("min_steps", self.min_steps >= 0, "must be >= 0"),
            ("vary", not (self.vary != "init" and self.subset == "literature"),
             "must be init with subset literature, which is one fixed cut; or use subset nested"),
            ("batch_size", self.batch_size >= 2, "must be >= 2 (batch normalisation)"),
            ("early_size", self.early_size is None or self.early_size >= 4, "must be >= 4"),
            ("early_size", self.early_size is None or self.image_size is None or self.early_size < self.image_size,
             "must be less than image-size"),
            ("early_size", self.early_size is None or self.train != "head", "has no effect with train head"),
            ("early_frac", 0 < self.early_frac < 1, "must lie in (0, 1)"),
            ("lr", self.lr > 0, "must be > 0"),
            ("momentum", 0 <= self.momentum < 1, "must lie in [0, 1)"),
            ("nesterov", not (self.nesterov and self.momentum == 0), "needs momentum > 0 (or --no-nesterov)"),
            ("weight_decay", self.weight_decay >= 0, "must be >= 0"),
            ("warmup_frac", 0 <= self.warmup_frac < 1, "must lie in [0, 1)"),
            ("milestones", all(0 < m < 1 for m in self.milestones), "must lie in (0, 1)"),
            ("drop", 0 < self.drop <= 1, "must lie in (0, 1]"),
            ("monitor_at", all(0 <= m <= 1 for m in self.monitor_at), "must lie in [0, 1]"),
            ("top_k", self.top_k >= 1, "must be >= 1"),
            ("more_top_k", all(k >= 1 and k != self.top_k for k in self.more_top_k), "must be >= 1 and not top-k"),
            ("eval_every", self.eval_every >= 1, "must be >= 1"),
            ("workers", self.workers >= 0, "must be >= 0"),
            ("threads", self.threads >= 0, "must be >= 1, or auto"),
            ("workers", not (self.workers and self.loader == "resident"), "are for the streaming loader"),
            ("split_seed", 0 <= self.split_seed < 2**31, "must lie in 0 to 2^31 - 1"),
            ("seed", 0 <= self.seed < 2**32, "must lie in 0 to 2^32 - 1"),
            ("lr", self.lr <= 1e38, "must be <= 1e38"),
            ("image_size", self.image_size is None or self.image_size <= 4096, "must be <= 4096"),
            ("experiment", self.experiment is None or _is_folder_name(self.experiment),
             "must be one folder's name, of 1 to 200 printable characters, without a slash"),
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


def _is_folder_name(name: str) -> bool:
    return bool(re.fullmatch(r"(?!\.{1,2}$)[^/\0]{1,200}", name)) and name.isprintable()


def is_pretrained(config: Config) -> bool:
    """Return whether a network starts from weights that were trained elsewhere."""
    options = config.model.options
    return config.weights is not None or bool(options.get("pretrained") or options.get("checkpoint_path"))


def changes_images(config: Config) -> tuple[str, str] | None:
    """Return slot and name of a component that augments or mixes images; None for a method without one."""
    parts = [("pixel", config.pixel), ("mix", config.mix)]
    parts += [item for phase in config.phases for item in phase.components.items()]
    found = [(slot, part.name) for slot, part in parts if slot in ("pixel", "mix")]
    return next((one for one in found if one[1] not in ("none", "default")), None)


def check_frozen(config: Config) -> None:
    """Make sure that a head trained on features extracted once is asked for nothing that changes images.

    Raises:
        ConfigError: The method augments or mixes images.
    """
    if config.train == "head" and (found := changes_images(config)):
        slot, name = found
        raise ConfigError(
            f"train head extracts features once, so {slot} {name!r} would have no effect: drop it, or give "
            "--train last:0, which trains the head alone on augmented images"
        )


def needs_encoder(config: Config) -> str | None:
    """Return the component that compares images in the space of a common encoder, in words; None without one."""
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

"""Presets, named methods and their precedence: from the user's settings to the Config of a run, and its name.

Precedence, lowest first: defaults < recipe < preset < method < ``--config`` < ``DIVAUG_*`` < flags.
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

from divaug.base.errors import ConfigError, suggestion
from divaug.config.registry import add_import
from divaug.config.schema import (
    FAMILY_OF,
    OWN_IMAGES,
    Component,
    Config,
    config_fields,
    default_of,
    key_types,
    keys_of_kind,
    needs_encoder,
)
from divaug.config.tables import digest, flatten, from_layers, protocol_fingerprint
from divaug.config.weights import digest_of, input_beside

Table = Mapping[str, Any]
_PACKAGE = Path(__file__).parent
_NOT_KEYS = {
    "DIVAUG_DATA",
    "DIVAUG_IMPORT",
}  # a place to look for data; imports, which the registry reads itself
PATHS = ("path", "test", "data_root", "weights", "encoder", "extra_train", "output_dir")
FINE_TUNING = 1e-4  # peak rate of AdamW where all layers of pretrained weights are trained
_SAFE = re.compile(r"[\w.,=+-]+")


def names(kind: str) -> dict[str, str]:
    """Return the presets ("presets") or methods ("methods") that exist: name to one-line description."""
    return {path.stem: read_toml(path)["description"] for path in sorted((_PACKAGE / kind).glob("*.toml"))}


def path_of(kind: str, name: str) -> Path:
    """Return the TOML file of a preset or method."""
    return _PACKAGE / kind / f"{name}.toml"


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file; a missing or malformed one raises ConfigError."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _read_named(kind: str, name: str) -> dict[str, Any]:
    if name not in (known := names(kind)):
        raise ConfigError(f"unknown {kind.removesuffix('s')} {name!r}; {suggestion(name, known)}")
    table = read_toml(path_of(kind, name))
    del table["description"]
    return table


def _preset_layers(preset: str, dataset: str) -> list[tuple[str, Table]]:
    """A preset is a table of keys, and under [dataset.NAME] what differs for one data set."""
    table = _read_named("presets", preset)
    special = table.pop("dataset", {}).get(dataset, {})
    return [(f"preset {preset}", table), (f"preset {preset} for {dataset}", special)]


def _method_layer(method: str) -> tuple[str, Table]:
    """A method is a table of keys, of divaug's or in the user's own TOML file."""
    if _is_own(method):
        table = read_toml(method)
        table.pop("description", None)
        if "method" in table:
            raise ConfigError(f"{method}: a method says all that it does and cannot build on another: drop 'method'")
    else:
        table = _read_named("methods", method)
    if foreign := set(flatten(table, f"method {method}")) - set(keys_of_kind("method")):
        raise ConfigError(f"method {method}: {sorted(foreign)} are not keys of a method")
    return f"method {method}", table


def _is_own(method: str) -> bool:
    return method.endswith(".toml")


def environment() -> dict[str, Any]:
    """Return the keys set by ``DIVAUG_*`` variables, as plain values."""
    table = {}
    for variable, text in os.environ.items():
        if variable.startswith("DIVAUG_") and variable not in _NOT_KEYS:
            key = variable.removeprefix("DIVAUG_").lower()
            if key not in config_fields():
                raise ConfigError(f"environment variable {variable}: no such key; {suggestion(key, config_fields())}")
            table[key] = _read_variable(key, text)
    return table


def _read_variable(key: str, text: str) -> Any:
    """Read a variable by its key's type: strings unchanged, lists split at commas, the rest as TOML."""
    kind = key_types()[key]
    if kind is str or str in get_args(kind):
        return text
    value = plain_value(text)
    if get_origin(kind) is tuple and not isinstance(value, list):
        return [plain_value(part.strip()) for part in text.split(",") if part.strip()]
    return value


def plain_value(text: str) -> Any:
    """Read a flag's or variable's text as a TOML value if it is one, else as a string."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def resolve(
    *,
    recipe: Table | None = None,
    config: Table | None = None,
    env: Table | None = None,
    flags: Table | None = None,
) -> Config:
    """Merge all layers into the Config of one run; the highest layer that names a preset or method decides."""
    chosen = {
        "preset": default_of("preset"),
        "dataset": default_of("dataset"),
        "method": default_of("method"),
    }
    said = [
        ("recipe", recipe or {}),
        ("--config", config or {}),
        ("environment", env or {}),
        ("flags", flags or {}),
    ]
    for _, table in said:
        chosen |= {key: table[key] for key in chosen if key in table}
    told = {key.replace("-", "_"): value for _, table in said for key, value in table.items()}
    model, options = _said_model(said)
    if "preset" not in told and model.startswith("timm:"):
        chosen["preset"] = "timm"
    if wrong := [key for key, value in chosen.items() if not isinstance(value, str)]:
        raise ConfigError(f"{wrong[0]}: expected a name, got {chosen[wrong[0]]!r}")
    preset = _preset_layers(chosen["preset"], chosen["dataset"])
    # A run's own record has all keys: its method's file, of which it has the name, may have changed or gone.
    record = set(FAMILY_OF) <= {key.replace("-", "_") for key in config or {}}
    recorded = record and _is_own(chosen["method"]) and chosen["method"] == (config or {}).get("method")
    if record and chosen["method"] != (config or {}).get("method"):
        raise ConfigError(
            f"--config is a run's own record, which has all keys of a method: {chosen['method']} would have no effect; "
            "give the settings that you want from the record as flags"
        )
    method = ("--config", config or {}) if recorded else _method_layer(chosen["method"])
    chosen["method"] = Path(chosen["method"]).name if _is_own(chosen["method"]) else chosen["method"]
    _refuse_both(said, record)
    implied = _implied(said, told, model, options)
    resolved = from_layers([said[0], *preset, method, *said[1:], ("choice", chosen), implied])
    for slot in FAMILY_OF:
        own = getattr(from_layers([method]), slot).name
        if getattr(resolved, slot).name != own and any(slot in phase.components for phase in resolved.phases):
            raise ConfigError(
                f"method {chosen['method']!r} changes {slot} over training, so {slot} cannot be replaced by "
                f"{getattr(resolved, slot).name!r}; choose another method, or write the phases in a --config file"
            )
    if resolved.encoder is None and (what := needs_encoder(resolved)):
        raise ConfigError(
            f"{what} compares images in the space of a common encoder: give --encoder FILE and --data-part a "
            "(python -m divaug.recipes.encoder makes one from part b)"
        )
    return absolute(resolved)


def absolute(config: Config) -> Config:
    """Return a configuration whose paths are absolute, so that a run's record of them works from anywhere."""
    config = _with_weights(config)
    paths = {key: os.path.abspath(path) for key in PATHS if (path := getattr(config, key)) is not None}
    imports = tuple(os.path.abspath(item) if item.endswith(".py") else item for item in config.imports)
    return replace(config, **paths, imports=imports)


def _with_weights(config: Config) -> Config:
    """Return a configuration that says what its pretrained weights are and were trained with: files move and change."""
    if config.weights is None:
        return replace(config, weights_digest=None)
    file = config.weights
    config = replace(config, weights_digest=digest_of(file) or config.weights_digest)
    found = input_beside(file) if config.dataset in OWN_IMAGES else None
    if found is None:
        return config
    size, normalization = found
    return replace(config, image_size=config.image_size or size, normalization=config.normalization or normalization)


def _said_model(said: list[tuple[str, Table]]) -> tuple[str, dict[str, Any]]:
    """Return name and options of the network that the layers name between them; an empty name for none."""
    name, options = "", dict[str, Any]()
    for _, table in said:
        model = table.get("model")
        given = dict(model) if isinstance(model, Mapping) else {} if model is None else {"name": str(model)}
        named = str(given.pop("name", name))
        options = {**(options if named == name else {}), **given}
        name = named
    return name, options


def _refuse_both(said: list[tuple[str, Table]], record: bool) -> None:
    """Refuse steps that are asked for beside a stated number of epochs: under one protocol they would be two trainings.

    A run's own record has both, as they were.
    """
    keys = [{key.replace("-", "_"): value for key, value in table.items()} for _, table in said[1:]]
    epochs = max((i for i, of in enumerate(keys) if "epochs" in of), default=-1)
    steps = max((i for i, of in enumerate(keys) if "min_steps" in of), default=-1)
    if epochs < 0 or steps < epochs or not keys[steps]["min_steps"] or (record and steps == epochs == 0):
        return
    where = ("the --config file", "the environment (DIVAUG_EPOCHS)", "a flag, or --smoke,")[epochs]
    raise ConfigError(f"--min-steps has no effect beside a number of epochs, which {where} gives; give one of them")


def _implied(said: list[tuple[str, Table]], told: Table, model: str, options: Table) -> tuple[str, Table]:
    """What keys that were said imply for others that were not."""
    implied: dict[str, Any] = {}
    keys = [{key.replace("-", "_") for key in table} for _, table in said]
    epochs, steps = (max((i for i, of in enumerate(keys) if key in of), default=-1) for key in ("epochs", "min_steps"))
    if epochs > steps:  # a stated number of epochs is kept, whatever a file below asks
        implied["min_steps"] = 0
    if told.get("subset") == "literature" and "vary" not in told:  # it is one fixed cut
        implied["vary"] = "init"
    pretrained = told.get("weights") or options.get("pretrained") or options.get("checkpoint_path")
    trained = told.get("train", "full") not in ("head", "last:0")
    if (
        pretrained
        and trained
        and model.startswith("timm:")
        and "lr" not in told
        and told.get("preset", "timm") == "timm"
    ):
        implied["lr"] = FINE_TUNING  # of all layers: a rate for new weights would destroy trained ones
    return "implied", implied


def configure(**keys: Any) -> Config:
    """Return the configuration that flags of the same names would set; ``DIVAUG_*`` variables apply too.

    Args:
        **keys: Keys of ``Config``, for example ``dataset="digits"``. A component is given by name or as a table with
            a name, and one of its options with a dot: ``configure(mix="cutmix", **{"mix.alpha": 0.5})``. ``config``
            names a TOML file whose keys these override; ``imports`` lists files with your own components.

    Raises:
        ConfigError: Anything unknown, wrong or contradictory.

    Example:
        >>> import divaug
        >>> config = divaug.configure(dataset="digits", method="cmo", epochs=2, tracking="off")
        >>> config.mix.name, config.epochs
        ('cmo', 2)
    """
    flags: dict[str, Any] = {}
    file = keys.pop("config", None)
    if "import" in keys:  # its name in TOML, which Python reserves
        keys["imports"] = keys.pop("import")
    if isinstance(keys.get("imports"), str):
        keys["imports"] = [keys["imports"]]
    if "imports" in keys:  # absolute, as flags make it, so that the run's record of it works from anywhere
        keys["imports"] = [os.path.abspath(i) if str(i).endswith(".py") else str(i) for i in keys["imports"]]
        for item in keys["imports"]:
            add_import(item)
    for key, value in keys.items():
        slot, _, option = key.partition(".")
        if not option:
            below = flags.get(slot, {})
            name = value if isinstance(value, Mapping) else {"name": value}
            flags[slot] = {**name, **below} if below else value
        elif isinstance(flags.get(slot, {}), Mapping):
            flags[slot] = {**flags.get(slot, {}), option: value}
        else:
            flags[slot] = {"name": flags[slot], option: value}
    table = None if file is None else read_toml(file)
    for item in (table or {}).get("import", ()):
        add_import(item)
    return resolve(env=environment(), config=table, flags=flags)


def method_label(config: Config) -> str:
    """Return the name of a run's method, with its changes: ``cmo+mix.alpha=0.5``.

    A method in the user's own ``mine.toml`` is ``mine`` and four digits for what it says.
    """
    if _is_own(config.method):  # the file may have changed or gone: what it says is in the configuration
        said = [getattr(config, slot).table() for slot in (*FAMILY_OF, "head")] + [p.table() for p in config.phases]
        plain, parts = config, [f"{_plain_name(Path(config.method).stem)}-{digest(said, 4)}"]
    else:
        plain, parts = from_layers([_method_layer(config.method)]), [config.method]
    for slot in (*FAMILY_OF, "head"):
        ours, theirs = getattr(config, slot), getattr(plain, slot)
        parts += _differences("model.head" if slot == "head" else slot.replace("_", "-"), ours, theirs)
    if config.extra_train is not None:
        parts.append(f"extra-train={content_name(config.extra_train)}")
    if config.phases != plain.phases:
        parts.append(f"phase={digest([p.table() for p in config.phases])}")
    label = "+".join(parts)
    if len(label) > 100 or not _SAFE.fullmatch(label):  # what a person can read of it, and a hash of the whole
        named = [part for part in parts if "." not in part.partition("=")[0]]
        return f"{_plain_name('+'.join(named))[:80]}+{digest(parts[1:])}"
    return label


def _plain_name(text: str) -> str:
    """Return a name with a dash for every character that has a meaning to shells or file systems."""
    return re.sub(r"[^\w.,=+-]", "-", text)


def content_name(file: str) -> str:
    """Return a file's stem with four digits for its content: two files of one name are two methods."""
    try:
        content = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:4]
    except OSError:  # whoever reads it says so
        content = "none"
    return f"{Path(file).stem}-{content}"


def _differences(slot: str, ours: Component, theirs: Component) -> list[str]:
    mine, others = ours.table(), theirs.table()
    name, other = mine.pop("name"), others.pop("name")
    if name != other:
        return [f"{slot}={name}", *(f"{slot}.{k}={v}" for k, v in sorted(mine.items()))]
    keys = sorted(set(mine) | set(others))
    return [f"{slot}.{k}={mine.get(k, 'default')}" for k in keys if mine.get(k) != others.get(k)]


def experiment_name(config: Config) -> str:
    """Return the protocol's name: ``cifar10-exp100-fast``.

    Unless it is the preset's own protocol, it ends in the keys that a person changes most and a hash of its
    fingerprint: ``cells-natural-fast-64px-100max-1a2b3c4d``.
    """
    if config.experiment is not None:
        return config.experiment
    factor = f"{config.imbalance_factor:g}" if config.profile in ("exp", "linear", "step", "balanced_small") else ""
    if config.profile == "custom":
        factor = f"-{digest(list(config.counts), 4)}"
    source = _plain_name(Path(config.path).stem) if config.path else config.dataset
    name = f"{source}-{config.profile}{factor}-{config.preset}"
    named = ("dataset", "path", "test", "profile", "imbalance_factor", "counts", "preset")
    own = replace(
        from_layers(_preset_layers(config.preset, config.dataset)),
        **{key: getattr(config, key) for key in named},
    )
    fingerprint = protocol_fingerprint(config)
    return name if fingerprint == protocol_fingerprint(own) else "-".join([name, *_changes(config, own), fingerprint])


def _changes(config: Config, own: Config) -> list[str]:
    """Return in words what was changed of a preset: the keys that a person changes most."""
    words = {
        "image_size": f"{config.image_size}px", "max_per_class": f"{config.max_per_class}max",
        "epochs": f"{config.epochs}ep", "data_part": f"half-{config.data_part}",
        "model": _plain_name(config.model.name),
    }  # fmt: skip
    changed = [key for key in words if getattr(config, key) != getattr(own, key)]
    if config.min_steps and "epochs" in changed:
        changed.remove("epochs")  # they follow from the data
    if "model" in changed and config.model.name == own.model.name:
        changed.remove("model")
    return [words[key] for key in changed]

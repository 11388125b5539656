"""From plain TOML tables to a configuration and back, and the hash of what runs must share to be compared."""

import hashlib
import json
import types
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin

from divaug.base.errors import ConfigError, suggestion
from divaug.base.text import without_password
from divaug.config.registry import not_finite, plain
from divaug.config.schema import (
    FAMILY_OF,
    Component,
    Config,
    Phase,
    config_fields,
    default_of,
    key_types,
    keys_of_kind,
)


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
                number = 0 if key == "threads" and value == "auto" else value
                values[key] = convert(number, key_types()[key], label)
            choices = config_fields()[key].metadata["choices"]
            if choices and values[key] not in choices:
                raise ConfigError(f"{label}: unknown {value!r}; {suggestion(str(value), choices)}")
    return Config(**values)


def _overlay(below: Component, value: Any, where: str) -> Component:
    """Read a component over lower layers: without a name, or with the same name, it changes only what it gives."""
    if isinstance(value, Component):
        value = value.table()
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, Mapping) and value.get("name", below.name) == below.name:
        value = {**below.table(), **{key.replace("-", "_"): item for key, item in value.items()}}
    return convert(value, Component, where)


def overlay(below: Component, above: Component) -> Component:
    """Return ``above``; if the names agree, it keeps the hyperparameters, start and stop that it does not change."""
    return _overlay(below, above, "phase")


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
    value = plain(value)
    if not_finite(value):
        raise ConfigError(f"{where}: must be finite, got {value!r}")
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
    when = {key: convert(value[key], float, f"{where}: {key}") for key in ("start", "stop") if key in value}
    options = {k.replace("-", "_"): v for k, v in value.items() if k not in ("name", "start", "stop")}
    return Component(value["name"], options, **when)


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
            if (components[slot].start, components[slot].stop) != (0.0, 1.0):
                raise ConfigError(f"{where}: {raw}: start and stop are for the method; a phase begins at its 'from'")
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
    """Return the configuration as TOML that ``--config`` runs again; a password in an address is left out."""
    import tomli_w

    return tomli_w.dumps(to_table(config) | {"tracking": without_password(config.tracking)})


def digest(values: Any, length: int = 8) -> str:
    """Return a short SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:length]


def protocol_fingerprint(config: Config) -> str:
    """Return a hash of every key that two runs must share to be compared fairly."""
    table = to_table(config) | {"model": config.model.table()}  # the head belongs to the method
    if config.encoder is not None:
        table["encoder"] = config.encoder.rsplit("/", 1)[-1]  # its name holds a hash of its content; folders may differ
    if config.min_steps:  # the number of epochs follows from the data, which are compared by their own digest
        del table["epochs"]
    keys = [key for key in keys_of_kind("protocol") if getattr(config, key) != config_fields()[key].metadata["neutral"]]
    return digest({key: table.get(key) for key in keys})

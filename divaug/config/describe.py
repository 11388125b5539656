"""What ``--list`` and ``--describe`` print: names, summaries, options and defaults."""

from divaug.base.errors import ConfigError, suggestion
from divaug.config import layers
from divaug.config.registry import REGISTRIES


def families() -> list[str]:
    """Return what has names: the components' families, methods and presets."""
    return [*REGISTRIES, "methods", "presets"]


def print_list(family: str) -> None:
    """Print the names in a family, each with its summary.

    Raises:
        ConfigError: There is no such family.
    """
    if family not in families():
        raise ConfigError(f"unknown family {family!r}; {suggestion(family, families())}")
    rows = (
        layers.names(family)
        if family in ("methods", "presets")
        else {name: entry.summary for name, entry in REGISTRIES[family].entries().items()}
    )
    if family == "models":
        rows["timm:NAME"] = "any timm model, for example timm:resnet18; keyword arguments as --model.<kwarg>"
    width = max(len(name) for name in rows)
    for name, text in rows.items():
        print(f"{name.ljust(width)}  {text}")


def print_description(wanted: str) -> None:
    """Print what is known of ``[FAMILY/]NAME``.

    Raises:
        ConfigError: There is no such name.
    """
    family, _, name = wanted.rpartition("/")
    if family and family not in families():
        raise ConfigError(f"unknown family {family!r}; {suggestion(family, families())}")
    found = False
    every: set[str] = set()
    for each, registry in REGISTRIES.items():
        if family in ("", each):
            entries = registry.entries()
            every |= set(entries)
            if name in entries:
                found = True
                entry = entries[name]
                print(f"{each}/{name} ({entry.module})\n\n{entry.doc}\n")
                for option, (annotation, default) in entry.options.items():
                    print(
                        f"  {option}: {annotation or 'any'}"
                        + (f" = {default}" if default else " (required)")
                        + (f"; --tune draws from {entry.ranges[option]}" if option in entry.ranges else "")
                    )
    for kind in ("methods", "presets"):
        if family in ("", kind):
            every |= set(layers.names(kind))
            if name in layers.names(kind):
                found = True
                print(f"{kind}/{name}\n\n{(layers.path_of(kind, name)).read_text(encoding='utf-8')}")
    if not found:
        raise ConfigError(f"unknown name {wanted!r}; {suggestion(name, every)}")

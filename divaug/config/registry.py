"""Name-to-factory tables: the only look-up mechanism in divaug.

A factory is a class or function decorated with ``@MIX.register("name")``. Names, descriptions and hyperparameters of
the built-in components, and of the user's ``--import`` files, are read from their source with ``ast``: nothing is
imported until a component is built, so listing and rejecting a misspelt name take milliseconds.

A factory's positional parameters are *facts*, known only from data and model (``FACTS``); its keyword-only parameters
are hyperparameters, which come from the configuration. One annotated with a type of ``divaug.base.contracts``
(``Pixel``, ``list[Pixel]``, ``Partner``) is itself a component: given by name or as a table with a name, it is built
from the same facts.
"""

import ast
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial, wraps
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

from divaug.base.errors import ConfigError, DivaugError, suggestion
from divaug.config import user_files
from divaug.config.source import Entry, entry_of, registrations, scan_file, scan_package

FACTS = (
    "labels", "class_counts", "group_counts", "num_classes", "class_names", "feature_dim", "head_scale", "total_steps",
    "seed", "encoder_features", "default_pixel", "parameters", "lr", "momentum", "nesterov", "new_head", "validation",
)  # fmt: skip
CHAIN = "chain"  # the component that a name like "crop_flip+cutout" stands for
LIBRARIES = {"torchvision": "transform", "timm": "policy"}  # "timm:rand-m9" is timm with policy = "rand-m9"
ENTRY_POINT_GROUP = "divaug.plugins"
Factory = TypeVar("Factory", bound=Callable[..., Any])


class Registry:
    """The components of one family, keyed by the name that configurations use.

    Args:
        family: Name of the family in messages and in TOML.
        package: Package (or single module) whose files hold the built-in components.
        variable: Name of the registry variable in ``@VARIABLE.register(...)``.
    """

    def __init__(self, family: str, package: str, variable: str) -> None:
        self.family = family
        self.package = package
        self.variable = variable
        self._factories: dict[str, Callable[..., Any]] = {}
        self._ranges: dict[str, Mapping[str, Any]] = {}

    def register(self, name: str, *, tune: Mapping[str, Any] | None = None) -> Callable[[Factory], Factory]:
        """Decorate a factory to make it buildable as ``name``; a name is never reused.

        Args:
            name: What configurations call it.
            tune: Hyperparameters that ``--tune`` draws, see ``Entry.ranges``; in a file it is read, so written out.
        """

        def add(factory: Factory) -> Factory:
            ours = factory.__module__ == self.package or factory.__module__.startswith(f"{self.package}.")
            if not ours and name in scan_package(self.package, self.variable):
                raise ValueError(f"{self.family} {name!r} is one of divaug's own; choose another name")
            known = self._factories.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (
                factory.__module__,
                factory.__qualname__,
            ):
                raise ValueError(f"{self.family} {name!r} is already registered by {known.__module__}")
            self._factories[name] = finite = _finite(factory, f"{self.family} {name!r}")
            self._ranges[name] = tune or {}
            return finite

        return add

    def entries(self) -> dict[str, Entry]:
        """Return every known component by name: built in, from user files and plugins, registered by hand."""
        found = dict(scan_package(self.package, self.variable))
        for module, path in _extension_sources():
            for name, entry in scan_file(path, module, self.variable).items():
                if name in found and found[name].module != module:
                    raise ConfigError(
                        f"{path}: {self.family} {name!r} is already registered by {found[name].module}; "
                        "choose another name."
                    )
                found[name] = entry
        for name, factory in self._factories.items():
            if name not in found:
                found[name] = entry_of(name, factory, self._ranges.get(name))
        return dict(sorted(found.items()))

    def entry(self, name: str) -> Entry:
        """Return what is known about ``name``; an unknown name raises ConfigError with the allowed set."""
        entries = self.entries()
        if "+" in name and CHAIN in entries:
            name = CHAIN
        elif (library := name.partition(":")[0]) in LIBRARIES and library in entries:
            name = library
        if name not in entries:
            raise ConfigError(
                f"unknown {self.family} {name!r}; {suggestion(name, entries)} "
                "If it is your own, name its file with --import (from Python: imports=[FILE])."
            )
        return entries[name]

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Raise ConfigError unless ``name`` exists and takes every one of ``options``, by name and plain type."""
        entry = self.entry(name)
        options = _expanded(name, entry, options)
        for key, value in options.items():
            if key not in entry.options:
                way = f"{key} is positional in its signature, hyperparameters come after *; " * (key in entry.facts)
                raise ConfigError(f"{self.family} {name!r} has no {key!r}; {way}{suggestion(key, entry.options)}")
            if not_finite(value):
                raise ConfigError(f"{self.family}.{key} of {name!r} must be finite, got {value!r}")
            annotation, nested = entry.options[key][0], _nested_family(entry.options[key][0])
            if not _fits(value, annotation):
                way = "" if nested is None else f"; give {nested.family} by name, or as a table with a name"
                raise ConfigError(f"{self.family}.{key} of {name!r} must be {annotation}, got {value!r}{way}")
            if nested is not None:
                _each_component(value, nested.check)

    def facts_of(self, name: str, options: Mapping[str, Any]) -> set[str]:
        """Return the facts that a component and the components in its options ask for; check it before."""
        entry = self.entry(name)
        asked, given = set(entry.facts), _expanded(name, entry, options)
        for key, (annotation, default) in entry.options.items():
            if (nested := _nested_family(annotation)) is not None and (key in given or default is not None):
                value = given[key] if key in given else self._default(name, key, default)
                _each_component(value, lambda inner, own, nested=nested: asked.update(nested.facts_of(inner, own)))
        return asked

    def build(self, name: str, *, facts: Mapping[str, Any], **options: Any) -> Any:
        """Construct ``name``, passing only the facts that its signature asks for.

        Raises:
            ConfigError: Unknown name or option, a required option is missing, the component refuses a value, or
                a fact is not available.
        """
        options = plain(options)
        self.check(name, options)
        entry = self.entry(name)
        options = _expanded(name, entry, options)
        factory = self.factory(entry.name)
        for key, (annotation, default) in entry.options.items():
            if (nested := _nested_family(annotation)) is not None and (key in options or default is not None):
                value = options[key] if key in options else self._default(name, key, default)
                build = partial(nested._build_nested, facts)
                options[key] = _each_component(value, build)
        if missing := [fact for fact in entry.facts if fact not in facts]:
            known = ", ".join(facts) or "none here"
            way = f"; positional parameters are facts ({known}), hyperparameters come after *"
            if "encoder_features" in missing:
                way = " (give --encoder)"
            raise ConfigError(f"{self.family} {name!r} needs {', '.join(missing)}, not available here{way}")
        if missing := [k for k, (_, default) in entry.options.items() if default is None and k not in options]:
            raise ConfigError(f"{self.family} {name!r} needs a value for {', '.join(missing)}")
        from divaug.base.contracts import complete  # only when something is built: it needs torch

        try:
            return complete(factory(*(facts[fact] for fact in entry.facts), **options))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self.family} {name!r}: {error}") from error
        except DivaugError:
            raise
        except (Exception, SystemExit) as error:  # of a component of the user's own
            raise ConfigError(f"{self.family} {name!r} raised {type(error).__name__}: {error}") from error

    def factory(self, name: str) -> Callable[..., Any]:
        """Return what is registered as ``name``, importing its module."""
        entry = self.entry(name)
        if name not in self._factories:
            user_files.load(entry.module)
        if name not in self._factories:
            raise ConfigError(f"{entry.module} was imported but did not register {self.family} {name!r}")
        return self._factories[name]

    def _default(self, name: str, key: str, source: str | None) -> Any:
        try:
            return ast.literal_eval(source or "")
        except (ValueError, SyntaxError) as error:
            raise ConfigError(
                f"{self.family} {name!r}: the default of {key} must be a name or a table, written out, not {source}"
            ) from error

    def _build_nested(self, facts: Mapping[str, Any], name: str, options: Mapping[str, Any]) -> Any:
        return self.build(name, facts=facts, **options)


def plain(value: Any) -> Any:
    """Return an option as TOML knows it: paths as text, numpy's scalars as numbers, within lists and tables too."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def not_finite(value: Any) -> bool:
    """Return whether a value is, or holds, NaN or an infinity."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(not_finite(item) for item in value.values())
    return isinstance(value, list | tuple) and any(not_finite(item) for item in value)


def _finite(factory: Factory, what: str) -> Factory:
    """Return a factory that refuses NaN and infinity by hand too: ``CutMix(alpha=nan)`` would never mix."""
    make: Any = factory.__init__ if isinstance(factory, type) else factory

    @wraps(make)
    def checked(*args: Any, **options: Any) -> Any:
        for value in (*args, *options.values()):
            if not_finite(value):
                raise ValueError(f"{what}: its options must be finite, got {value!r}")
        return make(*args, **options)

    if not isinstance(factory, type):
        return cast(Factory, checked)
    setattr(factory, "__init__", checked)  # noqa: B010  the class itself, so that a call by hand is checked too
    return cast(Factory, factory)


def _expanded(name: str, entry: Entry, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an entry; for a name like "crop_flip+cutout" they are its steps.

    Options of a step are given as ``cutout.side = 8``, or as a table ``cutout = { side = 8 }``.
    """
    if name == entry.name:
        return {**options}
    library, colon, wanted = name.partition(":")
    if colon and library == entry.name:
        return {LIBRARIES[library]: wanted, **options}
    steps = {step: dict[str, Any]() for step in name.split("+")}
    for key, value in options.items():
        step, _, option = key.partition(".")
        if step not in steps or not (option or isinstance(value, Mapping)):
            raise ConfigError(
                f"{name!r} has no option {key!r}: name the step that it is for, as in {next(iter(steps))}.OPTION; the "
                f"steps are {', '.join(steps)}"
            )
        steps[step] |= {option: value} if option else {k.replace("-", "_"): v for k, v in value.items()}
    return {"steps": [{"name": step, **steps[step]} if steps[step] else step for step in name.split("+")]}


def _nested_family(annotation: str | None) -> "Registry | None":
    """Return the family whose components an option takes, by the types its annotation names."""
    words = set(re.findall(r"\w+", annotation or ""))
    return next((family for word, family in _NESTED.items() if word in words), None)


def _each_component(value: Any, do: Callable[[str, Mapping[str, Any]], Any]) -> Any:
    """Replace every component in an option's value by ``do(name, options)``; leave numbers and None."""
    if isinstance(value, str):
        return do(value, {})
    if isinstance(value, Mapping):
        if "name" in value:
            return do(value["name"], {k.replace("-", "_"): v for k, v in value.items() if k != "name"})
        return {key: _each_component(item, do) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_component(item, do) for item in value]
    return value


def _fits(value: Any, annotation: str | None) -> bool:
    """Check a value against an annotation's text; annotations that are not plain are left to the factory."""
    return annotation is None or _matches(value, ast.parse(annotation, mode="eval").body)


def _matches(value: Any, wanted: ast.expr) -> bool:
    match wanted:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _matches(value, left) or _matches(value, right)
        case ast.Constant(value=None):
            return value is None
        case ast.Subscript(value=ast.Name(id="list" | "Sequence"), slice=each):
            return isinstance(value, list | tuple) and all(_matches(item, each) for item in value)
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping"), slice=ast.Tuple(elts=[_, each])):
            return isinstance(value, Mapping) and all(_matches(item, each) for item in value.values())
        case ast.Name(id=kind) if kind in _PLAIN:
            return isinstance(value, _PLAIN[kind]) and isinstance(value, bool) == (kind == "bool")
        case ast.Name(id=kind) | ast.Attribute(attr=kind) if kind in _NESTED:
            return isinstance(value, str) or (isinstance(value, Mapping) and isinstance(value.get("name"), str))
        case _:
            return True


@lru_cache
def _plugins(search_path: tuple[str, ...]) -> list[str]:
    """Return the modules of installed plugins; cached, because reading every distribution's metadata is slow."""
    return [point.module for point in entry_points(group=ENTRY_POINT_GROUP)]


def _extension_sources() -> list[tuple[str, Path]]:
    """Return (module, source file) of every user file, user module and installed plugin.

    A user's file whose names are computed when it runs is imported: only that shows them. Files that are only looked
    at are not.
    """
    sources = []
    for item in user_files.imports():
        module = user_files.module_name(item)
        path = Path(item) if item.endswith(".py") else _source_of(item)
        sources.append((module, path))
        if module not in sys.modules and _computes_names(path, module):
            user_files.load(module)
    sources += [(module, _source_of(module)) for module in _plugins(tuple(sys.path))]
    return sources + [(user_files.module_name(item), Path(item)) for item in user_files.looked_at()]


def _source_of(module: str) -> Path:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # a parent package is missing
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"cannot import {module!r}: no such module; give a .py file or an installed module")
    return Path(spec.origin)


@lru_cache
def _computes_names(path: Path, module: str) -> bool:
    """Return whether a file registers more than its source shows, or nothing."""
    named = sum(len(scan_file(path, module, registry.variable)) for registry in REGISTRIES.values())
    return not named or named != registrations(path)


def add_import(item: str, *, named_by_user: bool = True) -> None:
    """Make the components of a user's file or module known (``--import``), in workers too.

    Args:
        item: File or module.
        named_by_user: Whether the user named it. What only a run folder names is read and not run, and one that is
            missing is left out, unless the user trusts run folders.

    Raises:
        ConfigError: No such file, a syntax error, a second file of the same stem, or nothing registered in it.
    """
    path = str(Path(item).resolve()) if item.endswith(".py") else item
    if not named_by_user and path not in user_files.imports() and not user_files.trusting():
        user_files.look_at(item)
        return
    if item.endswith(".py") and not Path(item).is_file():
        raise ConfigError(f"--import {item}: no such file")
    module = user_files.module_name(item)
    for known in user_files.imports():
        if known != path and user_files.module_name(known) == module:
            raise ConfigError(f"--import {item}: another file of the same name is imported already ({known})")
    before_it = user_files.imports()
    user_files.add(item)
    try:
        _look_into(item, module)
    except BaseException:  # one typo must not spoil the process
        user_files.keep(before_it)
        raise


def _look_into(item: str, module: str) -> None:
    """Refuse a file or module that registers nothing or has a syntax error."""
    try:
        file = next(file for name, file in _extension_sources() if name == module)
        named = any(scan_file(file, module, registry.variable) for registry in REGISTRIES.values())
        made = (factory.__module__ for registry in REGISTRIES.values() for factory in registry._factories.values())
        if not named and module not in made:
            raise ConfigError(f'--import {item} registers nothing; decorate a class with @MIX.register("name")')
    except SyntaxError as error:
        raise ConfigError(f"--import {item}: line {error.lineno}: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--import {item} cannot be read: {error}") from error


DATASETS = Registry("datasets", "divaug.data.datasets", "DATASETS")
MODELS = Registry("models", "divaug.models", "MODELS")
SAMPLERS = Registry("samplers", "divaug.samplers", "SAMPLERS")
LOSSES = Registry("losses", "divaug.losses", "LOSSES")
CLASS_WEIGHTS = Registry("class_weights", "divaug.losses.class_weights", "CLASS_WEIGHTS")
PIXEL = Registry("pixel", "divaug.pixel", "PIXEL")
MIX = Registry("mix", "divaug.mix", "MIX")
PARTNERS = Registry("partners", "divaug.mix.partners", "PARTNERS")
FEATURE = Registry("feature", "divaug.feature", "FEATURE")
HEADS = Registry("heads", "divaug.models.heads", "HEADS")
OPTIM = Registry("optim", "divaug.optim", "OPTIM")
POSTHOC = Registry("posthoc", "divaug.posthoc", "POSTHOC")

REGISTRIES = {
    registry.family: registry
    for registry in (
        DATASETS, MODELS, HEADS, SAMPLERS, LOSSES, CLASS_WEIGHTS, PIXEL, MIX, PARTNERS, FEATURE, OPTIM, POSTHOC,
    )
}  # fmt: skip
_PLAIN: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str}
_NESTED = {"Pixel": PIXEL, "Partner": PARTNERS}  # types of divaug.base.contracts by the family they stand for

"""What is known about a component without importing it: name, description and options, read from source by ``ast``."""

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError
from divaug.config import user_files

_CONSTRUCTORS = ("__init__", "__new__")
_NO_PARAMETERS = {"nn.Module", "torch.nn.Module", "Module", "object"}
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Entry:
    """What is known about a component without importing it.

    Attributes:
        name: Registered name.
        doc: Its docstring.
        module: Module to import before it can be built.
        facts: Positional parameters.
        options: Keyword-only parameters: name to (annotation, default), both as source text, None where absent.
        symbol: Name of the class in its module; "" for a function.
        ranges: Hyperparameters that ``--tune`` draws, with what is sensible for them: (low, high), where two whole
            numbers give whole numbers; (low, high, "log"), alike on a logarithmic scale; or a list of values.
    """

    name: str
    doc: str
    module: str
    facts: tuple[str, ...]
    options: dict[str, tuple[str | None, str | None]]
    symbol: str = ""
    ranges: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.strip().split("\n", 1)[0]


def entry_of(name: str, factory: Callable[..., Any], ranges: Mapping[str, Any] | None = None) -> Entry:
    """Describe a factory that was registered by hand, in a session or notebook."""
    facts, options = [], {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            empty = parameter.annotation is parameter.empty
            annotation = None if empty else inspect.formatannotation(parameter.annotation)
            default = None if parameter.default is parameter.empty else repr(parameter.default)
            options[parameter.name] = (annotation, default)
        elif parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):  # nn.Module's own constructor
            facts.append(parameter.name)
    return Entry(
        name,
        inspect.getdoc(factory) or "",
        factory.__module__,
        tuple(facts),
        options,
        ranges=_checked(ranges or {}, options, name),
    )


@lru_cache
def scan_package(package: str, variable: str) -> dict[str, Entry]:
    """Return the components that a package's files (or a module) register, by name."""
    # find_spec of a submodule would import its parent; this package's own path is known without that.
    base = _PACKAGE.joinpath(*package.split(".")[1:])
    if base.with_suffix(".py").exists():
        return scan_file(base.with_suffix(".py"), package, variable)
    found: dict[str, Entry] = {}
    for path in sorted(base.glob("*.py")):
        found |= scan_file(path, f"{package}.{path.stem}", variable)
    return found


@lru_cache
def scan_file(path: Path, module: str, variable: str) -> dict[str, Entry]:
    """Return the components that a file registers with ``@VARIABLE.register("name")``, by name."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(
                        func=ast.Attribute(attr="register", value=ast.Name(id=owner)),
                        args=[ast.Constant(value=str(name))],
                        keywords=keywords,
                    ) if owner == variable:
                        entry = _entry_from_source(name, module, node)
                        ranges = {k: v for word in keywords for k, v in _literal(word, path).items()}
                        found[name] = replace(entry, ranges=_checked(ranges, entry.options, f"{path}: {name!r}"))
    return found


def _checked(ranges: Mapping[str, Any], options: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return ranges after making sure that they are of options, and ranges."""
    for option, limits in ranges.items():
        low, high, *scale = limits if isinstance(limits, tuple) and len(limits) in (2, 3) else (1, 0)
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
        ok = numbers and low < high and (not scale or (scale == ["log"] and low > 0))
        if option not in options or not (ok or (isinstance(limits, list) and limits)):
            raise ConfigError(
                f"{where}: tune gives {option} {limits!r}; it takes options ({', '.join(options) or 'none'}) with "
                '(LOW, HIGH), (LOW, HIGH, "log") or a list of values'
            )
    return ranges


def _literal(keyword: ast.keyword, path: Path) -> dict[str, Any]:
    """Return the ranges of ``register("name", tune={...})``, which are read and never run."""
    try:
        found = ast.literal_eval(keyword.value)
    except ValueError:
        found = None
    if keyword.arg != "tune" or not isinstance(found, dict):
        raise ConfigError(
            f"{path}, line {keyword.value.lineno}: register takes a name and tune={{OPTION: (LOW, HIGH)}}, written out"
        )
    return found


def _entry_from_source(name: str, module: str, node: ast.ClassDef | ast.FunctionDef) -> Entry:
    function: Any = node
    symbol = node.name if isinstance(node, ast.ClassDef) else ""
    if isinstance(node, ast.ClassDef):
        constructors = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name in _CONSTRUCTORS]
        function = constructors[0] if constructors else None
        if function is None and (len(node.decorator_list) > 1 or {ast.unparse(b) for b in node.bases} - _NO_PARAMETERS):
            return entry_of(name, getattr(user_files.load(module), node.name))  # its constructor is defined elsewhere
    if function is None:
        return Entry(name, ast.get_docstring(node) or "", module, (), {}, symbol)
    positional = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    facts = positional[1:] if isinstance(node, ast.ClassDef) else positional
    options = {
        argument.arg: (
            ast.unparse(argument.annotation) if argument.annotation else None,
            ast.unparse(default) if default else None,
        )
        for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    }
    return Entry(name, ast.get_docstring(node) or "", module, tuple(facts), options, symbol)


def registrations(file: Path) -> int:
    """Return the number of ``X.register(...)`` calls in a file."""
    calls = (node.func for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return sum(isinstance(function, ast.Attribute) and function.attr == "register" for function in calls)


def lazy(package: str, variable: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a family's package: its components' classes, imported on first use."""

    def symbols() -> dict[str, str]:
        return {entry.symbol: entry.module for entry in scan_package(package, variable).values() if entry.symbol}

    def attribute(name: str) -> Any:
        if (known := symbols()) and name in known:
            return getattr(import_module(known[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute, lambda: sorted(symbols())

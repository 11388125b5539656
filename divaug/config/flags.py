"""The command line of every recipe that trains: flags equal the keys of ``Config``.

Nothing heavy is imported here: ``--help``, ``--list`` and a misspelt name answer at once.
"""

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from divaug.base.errors import ConfigError, suggestion
from divaug.config import layers
from divaug.config.command import Parser
from divaug.config.describe import families, print_description, print_list
from divaug.config.registry import add_import
from divaug.config.schema import (
    FAMILY_OF,
    OWN_IMAGES,
    TABLES,
    Component,
    Config,
    changes_images,
    check_frozen,
    config_fields,
    default_of,
)

COMPONENT_FLAGS = ("model", "optim", *FAMILY_OF)
_OWN = 3  # groups of a parser before the keys: positional arguments, options, what to run
_SPECIAL = {"phases", "imports", "head", "method", "seed", "download", "monitor", "weights_digest", "threads"}


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    Attributes:
        configs: One configuration per run: methods x seeds.
        dry_run: Print what would run, then stop.
        print_config: Print the configurations as TOML, then stop.
        quiet: Print results only.
        resume_from: A run folder named by --resume, or None.
        smoke: Whether --smoke was given.
        extra: Values of the recipe's own flags.
        left_out: Default methods that a head trained on features extracted once cannot have: they change images.
    """

    configs: list[Config]
    dry_run: bool
    print_config: bool
    quiet: bool
    resume_from: str | None
    smoke: bool
    extra: dict[str, Any]
    left_out: list[str]

    @property
    def only(self) -> Config:
        """The single configuration of a recipe that takes one method and one seed; with the extra images if any."""
        configs = [config for config in self.configs if config.extra_train is not None] or self.configs
        if len(configs) > 1:
            raise ConfigError("this recipe takes one method and one seed")
        return configs[0]


def parse(
    program: str,
    description: str,
    argv: Sequence[str],
    recipe: Mapping[str, Any],
    *,
    methods: Sequence[str] = (),
    smoke: Mapping[str, Any] | None = None,
    positional: tuple[str, str] | None = None,
    own_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    brief: Sequence[str] = (),
) -> Request | None:
    """Read a command line; return None if it only asked for information, which is printed.

    Args:
        program: Shown in the usage.
        description: Shown in --help.
        argv: Arguments.
        recipe: The recipe's own values, over the defaults and below everything else.
        methods: Methods to compare when none is named.
        smoke: Values that --smoke sets; None: a recipe without --smoke.
        positional: Key and help of a positional argument.
        own_flags: Adds the recipe's own flags, whose values come back in ``Request.extra``.
        brief: What --help shows of the shared flags, for readers who need few of them; --help-all shows all. None: all.

    Raises:
        ConfigError: Anything unknown, wrong or contradictory.
    """
    argv, component_flags = take_component_options(argv)
    parser = _build_parser(program, description, recipe, methods, positional, smoke is not None)
    shared = {action.dest for action in parser._actions}
    shown = len(parser._action_groups)
    own_flags(parser)
    groups = parser._action_groups  # a recipe's own flags come before the hundred keys that all recipes have
    groups[_OWN:_OWN], groups[shown:] = groups[shown:], []
    if brief:
        _shorten(parser, shared - set(brief), argv)
    known = parser.read(argv)
    given = {key: value for key, value in vars(known).items() if value is not None}
    if "imports" in given:  # absolute, so that the run's own record of them works from anywhere
        given["imports"] = [os.path.abspath(i) if i.endswith(".py") else i for i in given["imports"]]
        for item in given["imports"]:
            add_import(item)
    if "list" in given:
        print_list(given["list"])
        return None
    if "describe" in given:
        print_description(given["describe"])
        return None
    flags = {key: value for key, value in given.items() if key in config_fields()}
    for slot, options in component_flags.items():
        name = {"name": flags[slot]} if slot in flags else {}
        flags[slot] = {**name, **options}
    if positional and "path" in flags and "dataset" not in flags:
        flags["dataset"] = _kind_of(flags["path"])
    tables: dict[str, Any] = {"recipe": {**recipe}, "env": layers.environment(), "flags": flags}
    resume_from = flags["resume"] if flags.get("resume", "auto") not in ("auto", "never") else None
    if resume_from is not None and {"config", "methods", "seeds"} & set(given):
        raise ConfigError("--resume with a run folder continues that one run; give no config, methods or seeds")
    if (source := f"{resume_from}/config.toml" if resume_from else given.get("config")) is not None:
        tables["config"] = layers.read_toml(source)
        for item in tables["config"].get("import", ()):
            add_import(item)
    said = (flags, tables["env"], tables.get("config", {}))
    if positional and resume_from is None and not any("dataset" in table for table in said):
        if not (paths := [table["path"] for table in said if "path" in table]):
            raise ConfigError(f"the argument {positional[0].upper()} is missing: {positional[1]}")
        flags["dataset"] = _kind_of(str(paths[0]))
    if given.get("smoke"):
        tables["flags"] = {**(smoke or {}), **flags}
    configs, left_out = _expand(tables, given, methods)
    for config in configs:
        _refuse_without_effect(config, flags)
    return Request(
        configs, bool(given.get("dry_run")), bool(given.get("print_config")), bool(given.get("quiet")), resume_from,
        bool(given.get("smoke")), {key: value for key, value in vars(known).items() if key not in shared}, left_out,
    )  # fmt: skip


def _kind_of(path: str) -> str:
    """Return the data set that a path of own images is."""
    return "csv" if not os.path.isdir(path) and path.lower().endswith(TABLES) else "image_folder"


def _threads(text: str) -> int:
    """Read ``auto`` or a number of threads."""
    if text != "auto" and not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be auto or a whole number >= 1, got {text!r}")
    return 0 if text == "auto" else int(text)


def _refuse_without_effect(config: Config, flags: Mapping[str, Any]) -> None:
    """Refuse flags that have no effect with the rest of the configuration."""
    own = config.dataset in OWN_IMAGES
    if flags.get("class_order") == "native" and config.vary == "cut":
        raise ConfigError("--class-order native has no effect here: every seed has its own order; use --vary images")
    for keys, works, way in (
        (("imbalance_factor", "class_order"), config.profile not in ("natural", "custom"), "--profile exp"),
        (("path", "test", "test_frac", "resize", "bits", "allow_leaks"), own, "--dataset image_folder"),
        (("normalization",), own, "--dataset image_folder"),
        (("test_frac",), config.test is None, "images whose test part is carved off, so without --test"),
        (("momentum", "nesterov"), config.optim.name != "adamw", "--optim sgd or muon"),
        (("data_root",), config.dataset != "image_folder", "a CSV, a list file or a named data set"),
        (("path_column", "label_column", "group_column", "split_column"), config.dataset == "csv", "a CSV"),
        (("milestones", "drop"), config.schedule == "step", "--schedule step"),
        (("early_frac",), config.early_size is not None, "--early-size"),
    ):
        if not works and (idle := [key for key in keys if key in flags]):
            given = f"--{idle[0].replace('_', '-')}"
            raise ConfigError(f"{given} has no effect here; use it with {way}")


def _expand(
    tables: dict[str, Any], given: dict[str, Any], default_methods: Sequence[str]
) -> tuple[list[Config], list[str]]:
    """Make one configuration per method and seed; return them, and the default methods that were left out."""
    flags, config = tables["flags"], tables.get("config", {})
    if "method" in given and "methods" in given:
        raise ConfigError("give --method or --methods, not both")
    said = (flags, tables["env"], config)
    touched = sorted({key.replace("-", "_") for table in said for key in table} & {*FAMILY_OF, "phase"})
    if "methods" in given:
        names = given["methods"].split(",")
        if len(set(names)) < len(names):
            raise ConfigError(f"--methods names a method twice: {given['methods']!r}")
        if len(names) > 1 and touched:
            raise ConfigError(
                f"--{touched[0].replace('_', '-')} changes one method, but {len(names)} are named; "
                "give one --method, or write your own method: --methods mine.toml,erm"
            )
    elif touched or any("method" in table for table in said):
        chosen = (table.get("method") for table in (*said, tables["recipe"]))
        names = [next((name for name in chosen if name), default_of("method"))]
    else:
        names = list(default_methods) or [default_of("method")]
    seeds = parse_seeds(given["seeds"]) if "seeds" in given else [None]
    if "seeds" in given and "seed" in given:
        raise ConfigError("give --seed or --seeds, not both")
    configs = []
    for name in names:
        for seed in seeds:
            own = {**flags, "method": name} | ({} if seed is None else {"seed": seed})
            configs.append(layers.resolve(**{**tables, "flags": own}))
    left_out = []
    if names == list(default_methods) and "methods" not in given:
        fitting = [config for config in configs if config.train != "head" or not changes_images(config)]
        left_out = list(dict.fromkeys(config.method for config in configs if config not in fitting))
        configs = fitting or configs
    for config in configs:
        check_frozen(config)
    one = given.get("resume", "auto") not in ("auto", "never")
    extra = [config for config in configs if config.extra_train is not None and not one]
    return [replace(config, extra_train=None) for config in extra] + configs, left_out  # without them first


def parse_seeds(text: str) -> list[int]:
    """Read ``0-4`` or ``0,3,7`` or a mixture.

    Raises:
        ConfigError: Anything else, or a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not span:
            raise ConfigError(f"--seeds must look like 0-4 or 0,3,7, got {text!r}")
        first, last = int(span[1]), int(span[2] or span[1])
        if last < first:
            raise ConfigError(f"--seeds: {part} runs backwards")
        if last - first >= 10_000:
            raise ConfigError(f"--seeds: {part} names {last - first + 1:,} seeds; at most 10,000 are taken")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds names a seed twice: {text!r}")
    return seeds


def take_component_options(
    argv: Sequence[str], slots: Sequence[str] = COMPONENT_FLAGS
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Take ``--mix.alpha 0.5`` and ``--mix.alpha=0.5`` off the arguments; refuse an unknown slot.

    An option of one step of a chain has two dots: ``--pixel crop_flip+cutout --pixel.cutout.side 8``.
    """
    rest: list[str] = []
    taken: dict[str, dict[str, Any]] = {}
    queue = list(argv)
    while queue:
        argument = queue.pop(0)
        match = re.fullmatch(r"--([a-z-]+)\.([\w-]+(?:\.[\w-]+)?)(?:=(.*))?", argument, re.DOTALL)
        if not match:
            rest.append(argument)
            continue
        slot, option, value = match[1].replace("-", "_"), match[2].replace("-", "_"), match[3]
        if slot not in slots:
            raise ConfigError(f"unknown argument {argument!r}; {suggestion(slot, slots)}")
        if value is None:
            if not queue:
                raise ConfigError(f"{argument} needs a value")
            value = queue.pop(0)
        taken.setdefault(slot, {})[option] = layers.plain_value(value)
    return rest, taken


def _build_parser(
    program: str,
    description: str,
    recipe: Mapping[str, Any],
    methods: Sequence[str],
    positional: tuple[str, str] | None,
    smoke: bool,
) -> Parser:
    parser = Parser(program, description)
    if positional:
        parser.add_argument(positional[0], metavar=positional[0].upper(), nargs="?", help=positional[1])
    first = parser.add_argument_group("what to run")
    first.add_argument("--method", metavar="NAME", help="one method (--list methods), or your own: a TOML file")
    compared = ",".join(methods)
    first.add_argument("--methods", metavar="A,B,C", help=f"methods to compare (default: {compared or 'erm'})")
    first.add_argument("--seed", type=int, metavar="N", help="training seed (default: 0)")
    first.add_argument("--seeds", metavar="0-4", help="several seeds: 0-4 or 0,3,7")
    if smoke:
        first.add_argument("--smoke", action="store_true", default=None, help="try the whole recipe in under a minute")
    first.add_argument("--config", metavar="FILE", help="TOML file of configuration keys")
    first.add_argument(
        "--import", action="append", dest="imports", metavar="FILE", help="file or module with your own components"
    )
    first.add_argument("--list", metavar="FAMILY", help=f"list the names in a family: {', '.join(families())}")
    first.add_argument("--describe", metavar="NAME", help="describe [FAMILY/]NAME")
    first.add_argument("--print-config", action="store_true", default=None, help="print the configuration, then stop")
    first.add_argument("--dry-run", action="store_true", default=None, help="print what would run, then stop")
    first.add_argument("--quiet", action="store_true", default=None, help="print results only")
    first.add_argument("-v", action="store_true", default=None, dest="verbose", help="show where an error comes from")
    shown = layers.resolve(recipe={"dataset": "csv", **recipe} if positional else recipe)  # the preset's values too
    shown = replace(shown, output_dir=default_of("output_dir"))  # not from where it is typed
    groups: dict[str, Any] = {}
    for key, field in config_fields().items():
        if key in _SPECIAL or (positional and key == positional[0]):
            continue
        name = field.metadata["group"]
        group = groups.setdefault(name, parser.add_argument_group(name))
        _add_flag(group, key, field.metadata, getattr(shown, key))
    groups["data"].add_argument("--no-download", action="store_false", dest="download", default=None,
                                help="never download")  # fmt: skip
    groups["run"].add_argument("--threads", type=_threads, metavar="auto|N", help="threads of a run on the CPU "
                               "(default: auto, by the size of its steps; 1 with several --jobs)")  # fmt: skip
    groups["latent monitor"].add_argument("--no-monitor", action="store_false", dest="monitor", default=None,
                                          help="do not measure latent diversity")  # fmt: skip
    return parser


def _shorten(parser: Parser, others: set[str], argv: Sequence[str]) -> None:
    """Leave out of --help what few readers need; --help-all has it."""
    parser.add_argument("--help-all", action="help", help="show every flag")
    if "--help-all" in argv:
        return
    left_out = [action for action in parser._actions if action.dest in others - {"help"}]
    for action in left_out:
        action.help = argparse.SUPPRESS
    parser.epilog = f"{len(left_out)} more flags: --help-all"


def _add_flag(group: Any, key: str, metadata: Mapping[str, Any], default: Any) -> None:
    flag = "--" + key.replace("_", "-")
    text = metadata["help"].replace("%", "%%")
    if isinstance(default, Component):
        told = f"{text}; options: {flag}.OPTION VALUE (default: {default.name})"
        group.add_argument(flag, metavar="NAME", help=told)
    elif isinstance(default, bool):
        group.add_argument(
            flag, action=argparse.BooleanOptionalAction, default=None, help=f"{text} (default: {default})"
        )
    elif isinstance(default, tuple):
        kind = int if key in ("counts", "more_top_k") else float
        shown = ",".join(str(value) for value in default) or "none"
        group.add_argument(flag, type=_list_of(kind), metavar="A,B", help=f"{text} (default: {shown})")
    else:
        known = {"image_size": int, "max_per_class": int, "early_size": int}
        kind = known.get(key, str if default is None else type(default))
        shown = "" if default is None else f" (default: {default})"
        if metadata["choices"]:
            text += f": {', '.join(metadata['choices'])}"
        group.add_argument(flag, type=kind, metavar=kind.__name__.upper(), help=f"{text}{shown}")


def _list_of(kind: type) -> Callable[[str], list[Any]]:
    def read(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",") if part]

    read.__name__ = f"list of {kind.__name__}"
    return read

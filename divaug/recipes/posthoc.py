"""Give finished runs new heads, fitted to the embeddings of their training images, which are extracted once.

    python -m divaug.recipes.posthoc runs/cifar10-exp100-fast/erm
    python -m divaug.recipes.posthoc RUN --method crt,eos,smote --head-epochs 10

Trained anew on over-sampled embeddings: eos, smote, ros, and none, the control (EOS in its authors' three phases).
Trained with classes drawn equally often: crt, lws. Without training: tau_norm, nearest_mean, linear_svm and
logit_adjustment. Each is a model folder below the run's, posthoc/<method>, which divaug.load and divaug predict take.
posthoc/results.csv has the rows of all, with those of the majority class and of nearest neighbours; --results CSV
collects the rows of many runs, together with those of training. Options other than the defaults become part of the
method's name; a method of your own comes with --import FILE.

"fewest bases": from how many different images the synthetic embeddings of a class start, in the class with the
fewest. EOS starts from images near another class; in a network that fits its training images these are few.
"""

import os
import sys
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, suggestion
from divaug.base.record import TITLES
from divaug.config.command import Parser, add_trust
from divaug.config.command import main as run_main
from divaug.config.layers import plain_value
from divaug.config.registry import POSTHOC, add_import

METHODS = (
    "none", "ros", "smote", "eos", "crt", "lws", "tau_norm", "nearest_mean", "linear_svm", "logit_adjustment",
)  # fmt: skip
OPTIONS = {"neighbours": "neighbours", "head_epochs": "epochs", "head_lr": "lr"}  # what components call them


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug.recipes.posthoc", __doc__)
        parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders that hold them")
        parser.add_argument("--method", default=",".join(METHODS), help="methods, separated by commas (default: all)")
        parser.add_argument("--import", action="append", dest="imports", metavar="FILE", help="your own methods")
        own = "(default: the method's own"
        parser.add_argument(
            "--neighbours", type=int, help=f"nearest neighbours of smote and eos {own}, 10 in divaug's)"
        )
        parser.add_argument("--head-epochs", type=int, help=f"epochs of the new head {own}, 10 in divaug's)")
        parser.add_argument("--head-lr", type=float, help=f"its initial learning rate {own}, 0.1 in divaug's)")
        text = "append one row per run and method, as --results does in training"
        parser.add_argument("--results", metavar="CSV", help=text)
        add_trust(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments)
        for item in chosen.imports or ():
            add_import(item)
        methods, known = chosen.method.split(","), POSTHOC.entries()
        for name in methods:
            if name not in known:
                raise ConfigError(f"unknown method {name!r}; {suggestion(name, known)}")
        for flag, value in (("neighbours", chosen.neighbours), ("head-epochs", chosen.head_epochs)):
            if value is not None and value < 1:
                raise ConfigError(f"--{flag} must be >= 1, got {value}")
        if chosen.head_lr is not None and not 0 < chosen.head_lr <= 1e6:
            raise ConfigError(f"--head-lr must lie in (0, 1e6], got {chosen.head_lr}")
        if len(set(methods)) < len(methods):
            raise ConfigError(f"--method names a method twice: {chosen.method!r}")

        options = {key: value for key in OPTIONS if (value := getattr(chosen, key)) is not None}
        for key, option in OPTIONS.items():
            if key in options and not any(option in POSTHOC.entry(name).options for name in methods):
                raise ConfigError(f"--{key.replace('_', '-')} has no effect on {', '.join(methods)}")

        from divaug.base.errors import DataError, DivaugError
        from divaug.runs.folder import find_runs

        folders = [folder for folder in find_runs(chosen.runs) if folder.finished]
        if not folders:
            raise DivaugError(f"no finished run at or below {', '.join(chosen.runs)}")
        if chosen.results is not None:
            from divaug.report.results import check_writable

            check_writable(Path(chosen.results))
        left_out = 0
        for folder in folders:
            try:
                _one_run(folder, methods, options, chosen.results)
            except DataError as error:  # a fold of divaug train, for example
                if len(folders) == 1:
                    raise
                print(f"left out: {error}", file=sys.stderr)
                left_out += 1
        return DataError.exit_code if left_out else 0

    return run_main("posthoc", argv, work)


def _options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return those of the options that a method has."""
    return {key: value for key, value in options.items() if OPTIONS[key] in POSTHOC.entry(name).options}


def _label(name: str, options: dict[str, Any]) -> str:
    """Return the method with the options that are not its defaults: they set its rows apart."""
    own, defaults = _options(name, options), POSTHOC.entry(name).options
    changed = [
        f"+{key.replace('_', '-')}={value}" for key, value in own.items()
        if plain_value(defaults[OPTIONS[key]][1] or "") != value
    ]  # fmt: skip
    return "".join([name, *changed])


def _one_run(folder: Any, methods: list[str], options: dict[str, Any], results_file: str | None) -> None:
    from divaug.config.schema import Component
    from divaug.report import results
    from divaug.runs.new_heads import keep_rows, new_heads

    print(f"\n{folder.experiment}: {folder.label}, seed {folder.config.seed}; test recall in %")
    heads, components = [], {}
    for name in methods:
        given = {OPTIONS[key]: value for key, value in _options(name, options).items()}
        components[_label(name, options)] = Component(name, given)
    for head in new_heads(folder, components):
        # The run's own head is a row of training; rules without a head are rows of the table only.
        if head.label in components and not isnan(head.accuracies["bal_acc"]) and results_file is not None:
            file = Path(results_file)
            results.append(file, {
                **results.key_beside(file, folder), "method": f"{folder.label}+posthoc={head.label}",
                **{f"test_{key}": value for key, value in head.accuracies.items()},
                **{f"recall_{name}": value for name, value in head.recalls.items()},
            })  # fmt: skip
        heads.append(head)
    _show(keep_rows(folder, heads))
    print("".join(f"{note}\n" for head in heads for note in head.notes), end="")
    print(f"files: {os.path.relpath(folder.path / 'posthoc')}")


def _show(table: Any) -> None:
    columns = {key.removeprefix("test_"): title for key, title in TITLES.items()}
    shown = {key: title for key, title in columns.items() if key not in ("acc", "macro_f1")}
    text = table[["head", "synthetic", "fewest_bases", *shown]]
    text = text.astype({"fewest_bases": float})  # None is NaN
    text.columns = ["new head", "synthetic", "fewest bases", *shown.values()]
    percent: Any = {title: (lambda value: "-" if isnan(value) else f"{100 * value:.1f}") for title in shown.values()}
    whole: Any = {"fewest bases": lambda value: "-" if isnan(value) else f"{value:.0f}"}
    print(text.to_string(index=False, formatters=percent | whole, na_rep="-"))


if __name__ == "__main__":
    sys.exit(main())

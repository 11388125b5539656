"""Give finished runs a new head, trained on their over-sampled embeddings: EOS in its authors' three phases.

    python -m divaug.recipes.posthoc runs/cifar10-exp100-fast/erm
    python -m divaug.recipes.posthoc RUN --method eos,smote --head-epochs 10

Phase one is the run. Phase two extracts the embeddings of its training images and over-samples them; phase three
trains a new head on these and puts it into the network, whose other weights do not change. Methods: eos, smote,
ros, and none, the control. Each run's folder gets posthoc/<method>.pt (network) and posthoc/results.csv; --results CSV
collects the rows of many runs, together with those of training. Options other than the defaults become part of the
method's name.

"fewest bases": from how many different images the synthetic embeddings of a class start, in the class with the
fewest. EOS starts from images near another class; in a network that fits its training images these are few.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, suggestion
from divaug.base.record import TITLES
from divaug.config import flags

METHODS = ("none", "ros", "smote", "eos")
DEFAULTS = {"neighbours": 10, "head_epochs": 10, "head_lr": 0.1}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = argparse.ArgumentParser(
            "divaug.recipes.posthoc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders that hold them")
        parser.add_argument("--method", default=",".join(METHODS), help="over-sampling methods, separated by commas")
        parser.add_argument("--neighbours", type=int, help="nearest neighbours of smote and eos (default: %(default)s)")
        parser.add_argument("--head-epochs", type=int, help="epochs of the new head (default: %(default)s)")
        parser.add_argument("--head-lr", type=float, help="its initial learning rate (default: %(default)s)")
        text = "append one row per run and method, as --results does in training"
        parser.add_argument("--results", metavar="CSV", help=text)
        parser.set_defaults(**DEFAULTS)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.parse_args(arguments)
        methods = chosen.method.split(",")
        for name in methods:
            if name not in METHODS:
                raise ConfigError(f"unknown method {name!r}; {suggestion(name, METHODS)}")
        for flag, value in (("neighbours", chosen.neighbours), ("head-epochs", chosen.head_epochs)):
            if value < 1:
                raise ConfigError(f"--{flag} must be >= 1, got {value}")
        if chosen.head_lr <= 0:
            raise ConfigError(f"--head-lr must be > 0, got {chosen.head_lr}")

        from divaug.base.errors import DivaugError
        from divaug.runs.folder import find_runs

        folders = [folder for folder in find_runs(chosen.runs) if folder.finished]
        if not folders:
            raise DivaugError(f"no finished run at or below {', '.join(chosen.runs)}")
        for folder in folders:
            _one_run(folder, methods, chosen)
        return 0

    return flags.main("posthoc", argv, work)


def _label(name: str, chosen: Any) -> str:
    """Return the method with the options that are not the defaults: they set its rows apart."""
    options = {key: getattr(chosen, key) for key in DEFAULTS if key != "neighbours" or name in ("smote", "eos")}
    changed = [f"+{key.replace('_', '-')}={value}" for key, value in options.items() if value != DEFAULTS[key]]
    return "".join([name, *changed])


def _one_run(folder: Any, methods: list[str], chosen: Any) -> None:
    import numpy as np
    import pandas as pd

    from divaug.base.files import make_folder, write_tensors, write_text
    from divaug.data.load import load_data
    from divaug.report import results
    from divaug.runs.embed import embed
    from divaug.runs.model import load
    from divaug.train.build import build_model

    config, names = folder.config, folder.manifest["class_names"]
    data = load_data(config)
    network = load(folder).network
    train, test = embed(network, data, "train"), embed(network, data, "test")
    out = make_folder(folder.path / "posthoc")
    found, _ = _measure(network, test, data)
    rows: list[dict[str, Any]] = [{"head": "as trained", "synthetic": 0, "fewest_bases": None, **found}]
    notes = []
    counts = np.bincount(train.labels, minlength=len(names))
    smaller = np.flatnonzero((counts > 0) & (counts < counts.max()))
    for name in methods:
        network.head = build_model(config, folder.manifest).head  # new weights, not the run's
        classes, base = _train_on_oversampled(name, network.head, train, config.seed, chosen)
        label = _label(name, chosen)
        write_tensors(out / f"{label}.pt", network.state_dict())
        fewest = None
        if name != "none":
            bases = {int(c): len(np.unique(base[classes == c])) for c in smaller}
            fewest = min(bases.values(), default=None)
            notes += [
                f"{name}: class {names[c]!r} got no synthetic embeddings: none of its {counts[c]} images has "
                f"one of another class among its {chosen.neighbours} nearest neighbours; "
                "more --neighbours may find some"
                for c, number in bases.items()
                if not number
            ]
        found, of_class = _measure(network, test, data)
        rows.append({"head": label, "synthetic": len(classes), "fewest_bases": fewest, **found})
        if chosen.results is not None:
            file = Path(chosen.results)
            results.append(file, {
                **results.key_beside(file, folder), "method": f"{folder.label}+posthoc={label}",
                **{f"test_{key}": value for key, value in found.items()},
                **{f"recall_{c}": value for c, value in zip(names, of_class, strict=True)},
            })  # fmt: skip
    table: Any = pd.DataFrame(rows)
    kept: Any = pd.read_csv(out / "results.csv") if (out / "results.csv").exists() else table[:0]
    kept = kept[~kept["head"].isin(table["head"])]  # from earlier calls with other methods or options
    write_text(out / "results.csv", pd.concat([kept, table]).to_csv(index=False, float_format="%.6g"))
    print(f"\n{folder.experiment}: {folder.label}, seed {config.seed}; test recall in %")
    _show(table)
    print("\n".join(notes), end="\n" if notes else "")
    print(f"files: {os.path.relpath(out)}")


def _train_on_oversampled(name: str, head: Any, train: Any, seed: int, chosen: Any) -> tuple[Any, Any]:
    """Train the head; return the synthetic embeddings' classes and the rows that they start from."""
    import numpy as np

    from divaug.base.rng import stream
    from divaug.posthoc.head import train_head
    from divaug.posthoc.oversample import METHODS as OVERSAMPLE

    rng = stream(seed, f"posthoc/{name}")
    synthetic, classes, base = OVERSAMPLE[name](train.features, train.labels, neighbours=chosen.neighbours, rng=rng)
    features, labels = np.concatenate([train.features, synthetic]), np.concatenate([train.labels, classes])
    train_head(head, features, labels, epochs=chosen.head_epochs, lr=chosen.head_lr, seed=seed)
    return classes, base


def _measure(network: Any, test: Any, data: Any) -> tuple[dict[str, float], list[float]]:
    """Return a head's accuracies on the test embeddings, and its recall of each class."""
    import torch

    from divaug.base.metrics import confusion_matrix, from_confusion, prior_corrected, recall

    with torch.no_grad():
        logits = network.head(torch.from_numpy(test.features)).numpy()
    matrix = confusion_matrix(test.labels, logits.argmax(1), logits.shape[1])
    corrected, _ = prior_corrected(test.labels, logits, data.cut.counts / data.cut.counts.sum())
    found = from_confusion(matrix, data.cut.group_counts)
    return {**found, "prior_corrected_bal_acc": corrected}, recall(matrix).tolist()


def _show(table: Any) -> None:
    columns = {key.removeprefix("test_"): title for key, title in TITLES.items()}
    shown = {key: title for key, title in columns.items() if key not in ("acc", "macro_f1")}
    text = table[["head", "synthetic", "fewest_bases", *shown]]
    text.columns = ["new head", "synthetic", "fewest bases", *shown.values()]
    percent: Any = {title: (lambda value: f"{100 * value:.1f}") for title in shown.values()}
    whole: Any = {"fewest bases": lambda value: f"{value:.0f}"}
    print(text.to_string(index=False, formatters=percent | whole, na_rep="-"))


if __name__ == "__main__":
    sys.exit(main())

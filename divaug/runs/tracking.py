"""The tracking store of a run, and mirroring a finished run folder afterwards."""

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from divaug.base.contracts import Tracker
from divaug.base.errors import ConfigError, DivaugError
from divaug.config.schema import Config, keys_of_kind
from divaug.config.tables import protocol_fingerprint, to_table
from divaug.runs.folder import RunFolder
from divaug.runs.trackers.mlflow import MlflowTracker, Note, NoTracker, is_mirrored
from divaug.runs.trackers.store import store_uri

MOST_CLASSES = 100  # whose recalls are logged one by one: MLflow draws a chart for every name


def tracking_uri(config: Config, output_dir: Path) -> str | None:
    """Return the tracking URI, None for ``off``; ``auto`` is $MLFLOW_TRACKING_URI or SQLite in the output folder.

    Raises:
        ConfigError: The value is neither auto nor off nor a URI.
    """
    if config.tracking == "off":
        return None
    if config.tracking == "auto":
        return os.environ.get("MLFLOW_TRACKING_URI") or store_uri(output_dir)
    if "://" not in config.tracking:
        raise ConfigError(
            f"tracking must be auto, off or a URI such as sqlite:////path/mlflow.db, got {config.tracking!r}"
        )
    if re.match(r"sqlite:/*(:memory:)?$", config.tracking):
        raise ConfigError("tracking must name a file: SQLite in memory keeps nothing")
    if re.search(r"\s", config.tracking) and not config.tracking.startswith("sqlite:"):
        raise ConfigError("tracking has a space in its address; write it as %20")
    return config.tracking


def open_tracker(config: Config, folder: RunFolder, say: Callable[[str], None]) -> Tracker:
    """Return the tracker of a run; use it as a context manager."""
    uri = tracking_uri(config, folder.output_dir)
    if uri is None:
        return NoTracker()
    table = to_table(config)
    keys = [{"phases": "phase", "head": "model"}.get(key, key) for key in keys_of_kind("protocol", "method", "seed")]
    return MlflowTracker(
        uri,
        output_dir=folder.output_dir,
        experiment=folder.experiment,
        run_name=f"{folder.label}/seed{config.seed}",
        folder=folder.path,
        params=_parameters({key: table[key] for key in keys if key in table}) | {"label": folder.label},
        tags={"divaug.protocol": protocol_fingerprint(config), "divaug.data": folder.manifest["data"]},
        description=_description(config, folder),
        say=say,
    )


def mirror_report(run: RunFolder, folder: Path, files: Sequence[Path], say: Callable[[str], None]) -> None:
    """Put a comparison's files into the experiment of its runs: artifacts of one MLflow run named ``comparison``.

    The same folder always has the same MLflow run, whose files are replaced. It is no parent of the methods' runs:
    MLflow would fold them away below it, and its table could no longer be sorted.

    Args:
        run: One of the runs; without a store that has it nothing is done.
        folder: The report's folder, which notes its MLflow run.
        files: What it holds.
        say: Takes one line for the user.
    """
    uri = tracking_uri(run.config, run.output_dir)
    if uri is None or not Note(run.path).at(uri):
        return
    tags = {"divaug.protocol": protocol_fingerprint(run.config), "divaug.data": run.manifest["data"]}
    tracker = MlflowTracker(
        uri, output_dir=run.output_dir, experiment=run.experiment, run_name="comparison", folder=folder, params={},
        tags=tags | {"divaug.kind": "comparison"}, description=_description(run.config, run), say=say,
        again="python -m divaug.recipes.compare " + shlex.quote(str(run.path.parents[1])),
    )  # fmt: skip
    with tracker:
        for file in files:
            tracker.artifact(file)


def _description(config: Config, folder: RunFolder) -> str:
    """Return what an experiment is, for whoever opens it in MLflow."""
    factor = f", imbalance factor {config.imbalance_factor:g}" if config.profile in ("exp", "linear", "step") else ""
    source = Path(config.path).name if config.path else config.dataset
    return (
        f"{source}, profile {config.profile}{factor}; preset {config.preset}, {config.model.name}. One run per method "
        "and seed. Results of the last epoch: `final/test_bal_acc` (balanced accuracy), "
        "`final/test_prior_corrected_bal_acc`, `final/test_acc_tail`; curves: `train/`, `test/`, `views/` (latent "
        f"diversity), `test/recall/`. Runs can be compared if their tags `divaug.protocol` and `divaug.data` agree "
        f"(first run: {protocol_fingerprint(config)}, {folder.manifest['data']})."
    )


def epoch_metrics(row: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, float]:
    """Return what a tracker gets of an epoch: its metrics and, up to 100 classes, ``test/recall/<class>``.

    Args:
        row: A row of ``metrics.jsonl``.
        class_names: Names of the classes; characters that MLflow refuses become underscores.
    """
    recalls, shown = row["per_class"].get("test/recall", ()), dict(row["metrics"])
    if len(class_names) <= MOST_CLASSES:
        for name, recall in zip(class_names, recalls, strict=False):
            plain = re.sub(r"[^\w .:-]", "_", name)[:200].strip()
            plain = plain if plain.strip(".") else "_"
            while f"test/recall/{plain}" in shown:
                plain += "_"
            if not math.isnan(recall):  # the class has test images
                shown[f"test/recall/{plain}"] = recall
    return shown


def _parameters(table: dict[str, Any]) -> dict[str, Any]:
    """Return ``mix`` and ``mix.alpha`` for a component's table, so that they appear as separate values."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            inner = _parameters(value)
            flat |= {key if option == "name" else f"{key}.{option}": item for option, item in inner.items()}
        else:
            flat[key] = value
    return flat


def upload(folder: RunFolder, tracking: str | None, say: Callable[[str], None]) -> None:
    """Mirror a run folder in a tracking store; what the store already has is left unchanged.

    Args:
        folder: A run, finished or not.
        tracking: URI, or None for the store in the run's own configuration.
        say: Takes one line for the user.

    Raises:
        DivaugError: The store cannot be reached.
    """
    config = folder.config
    config = replace(config, tracking=tracking or ("auto" if config.tracking == "off" else config.tracking))
    with folder.lock(), open_tracker(config, folder, say) as tracker:
        _mirror(folder, tracker)
        alive = tracker.alive
    if not alive:
        raise DivaugError(f"{folder.path} could not be mirrored")


def mirror_if_missing(config: Config, folder: RunFolder, say: Callable[[str], None]) -> None:
    """Mirror a finished run that its store lacks: it was off or unreachable, or the process died at the end."""
    uri = tracking_uri(config, folder.output_dir)
    if uri is not None and not is_mirrored(folder.path, uri):
        with open_tracker(config, folder, say) as tracker:
            _mirror(folder, tracker)


def _mirror(folder: RunFolder, tracker: Tracker) -> None:
    if not folder.finished:
        tracker.status = "KILLED"
    names = folder.manifest["class_names"]
    for row in folder.metrics.rows():
        tracker.log(epoch_metrics(row, names), row["epoch"])
    finish(folder, tracker)


def finish(folder: RunFolder, tracker: Tracker) -> None:
    """Mirror a run's result and files."""
    for name in (
        "config.toml",
        "manifest.json",
        "environment.json",
        "metrics.jsonl",
        "per_class.parquet",
        "result.json",
    ):
        if (folder.path / name).exists():
            tracker.artifact(folder.path / name)
    if folder.finished:
        if folder.figures.is_dir():
            tracker.artifact(folder.figures, "figures")
        tracker.log_final({key: value for key, value in folder.result.items() if value is not None})

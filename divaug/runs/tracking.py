"""The tracking store of a run, and mirroring a finished run folder afterwards."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from divaug.base.contracts import Tracker
from divaug.base.errors import ConfigError, DivaugError
from divaug.base.files import write_text
from divaug.config.schema import Config, keys_of_kind
from divaug.config.tables import protocol_fingerprint, to_table
from divaug.runs.folder import RunFolder
from divaug.runs.trackers.mlflow import MlflowTracker, NoTracker, store_uri

MIRRORED = "mlflow_mirrored.txt"  # in a run folder: names the store that has the whole run


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
        say=say,
    )


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
    if tracking_uri(config, folder.output_dir) is not None and not (folder.path / MIRRORED).exists():
        with open_tracker(config, folder, say) as tracker:
            _mirror(folder, tracker)


def _mirror(folder: RunFolder, tracker: Tracker) -> None:
    if not folder.finished:
        tracker.status = "KILLED"
    for row in folder.metrics.rows():
        tracker.log(row["metrics"], row["epoch"])
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
        tracker.artifact(folder.figures, "figures")
        tracker.log_final({key: value for key, value in folder.result.items() if value is not None})
        if tracker.uri and tracker.alive:
            write_text(folder.path / MIRRORED, tracker.uri + "\n")

"""The folder of a run: its contents, when it is finished, and who may write to it."""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from typing import Any

from divaug import __version__
from divaug.base.errors import ConfigError, DataError, DivaugError
from divaug.base.files import exclusive, make_folder, write_json, write_text
from divaug.base.text import without_password
from divaug.config.layers import absolute, content_name, experiment_name, method_label, read_toml
from divaug.config.registry import add_import
from divaug.config.schema import Config, keys_of_kind
from divaug.config.tables import dump, from_layers, to_table
from divaug.runs.own_files import own_files, recorded
from divaug.runs.trackers.jsonl import JsonlLog
from divaug.runs.trackers.mlflow import Note


class RunFolder:
    """``DIR/<experiment>/<method>/seed<k>``.

    Attributes:
        path: The folder, absolute.
        metrics: One row per epoch: ``epoch``, ``metrics`` (name to value), ``per_class`` (name to a list by class).

    Beside them: ``config.toml``, ``manifest.json`` (the data), ``environment.json``, ``per_class.parquet``,
    ``test_outputs.npz`` and ``val_outputs.npz`` (see ``outputs``),
    ``result.json`` (written last: its presence means finished), ``figures/`` and ``checkpoints/last.pt``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self.metrics = JsonlLog(self.path / "metrics.jsonl")

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def of(cls, config: Config) -> "RunFolder":
        """Return the folder that a configuration runs in."""
        return cls(Path(config.output_dir) / experiment_name(config) / method_label(config) / f"seed{config.seed}")

    @property
    def experiment(self) -> str:
        """Name of the experiment: the folder two levels up."""
        return self.path.parents[1].name

    @property
    def label(self) -> str:
        """Name of the method with its changes: the folder one level up."""
        return self.path.parent.name

    @property
    def output_dir(self) -> Path:
        """The folder of all runs: three levels up."""
        if len(self.path.parents) < 3:
            raise ConfigError(
                f"{self.path} lies too high for a run, which is <folder>/<experiment>/<method>/seed<k>: move it with "
                "the folders above it"
            )
        return self.path.parents[2]

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    @property
    def table(self) -> Path:
        """The statistics of every epoch and class."""
        return self.path / "per_class.parquet"

    @property
    def finished(self) -> bool:
        """Whether the run has finished."""
        return (self.path / "result.json").exists()

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.path / "config.toml").exists() and (self.path / "manifest.json").exists()

    def pace(self) -> tuple[float, float] | None:
        """Return the seconds of all epochs and of those that are left, at the last one's pace; None before two end.

        The first is no measure: in short runs it can take three times as long as the others.
        """
        rows = self.metrics.rows()
        if len(rows) < 2:
            return None
        epochs, each = int(read_toml(self.path / "config.toml")["epochs"]), rows[-1]["metrics"]["train/epoch_seconds"]
        return epochs * each, (epochs - rows[-1]["epoch"] - 1) * each

    @property
    def config(self) -> Config:
        """The resolved configuration that the run was started with.

        Raises:
            DivaugError: The run was made by another version of divaug, whose folders this one cannot read.
        """
        self._refuse_older()
        table = read_toml(self.path / "config.toml")
        for item in table.get("import", ()):  # the folder may be somebody else's
            if isinstance(item, str):  # anything else is refused below
                add_import(item, named_by_user=False)
        return from_layers([(str(self.path / "config.toml"), table)])

    def _refuse_older(self) -> None:
        try:
            made_by = str(json.loads((self.path / "environment.json").read_text(encoding="utf-8"))["divaug"])
        except (OSError, ValueError, KeyError):
            return  # not a run folder, or a damaged one: whatever needs the file reports it
        if made_by.startswith("0.1."):
            raise DivaugError(
                f"{self.path} was made by divaug {made_by}; divaug {__version__} can neither read nor resume it: "
                "use that version, or train again under another --experiment"
            )

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run was trained and tested on."""
        found = self._json("manifest.json")
        wrong = [key for key, right in _MANIFEST.items() if key in found and not right(found[key])]
        if not wrong and {"counts", "class_names"} <= set(found) and len(found["counts"]) != len(found["class_names"]):
            wrong = ["counts"]
        if wrong:
            raise DivaugError(f"{self.path / 'manifest.json'} is damaged: {wrong[0]} is {found[wrong[0]]!r:.60}")
        return found

    @property
    def version(self) -> str:
        """The version of divaug, and the commit where it was a checkout, that the run was begun with."""
        if not (self.path / "environment.json").exists():
            return "unknown"
        known = self._json("environment.json")
        commit = re.sub(r"[0-9a-f]{40}", lambda found: found[0][:10], str(known.get("commit") or ""))
        return f"{known.get('divaug', 'unknown')} {commit}".rstrip()  # -dirty: with changes that were not committed

    @property
    def result(self) -> dict[str, Any]:
        """The final metrics (name to value, None where undefined)."""
        found = self._json("result.json")
        if wrong := [key for key, value in found.items() if value is not None and not _is_number(value)]:
            raise DivaugError(f"{self.path / 'result.json'} is damaged: {wrong[0]} is {found[wrong[0]]!r:.60}")
        return found

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DivaugError(
                f"{self.path} has no {name}: it is not a run folder, or the run is not finished"
            ) from error
        except ValueError as error:
            raise DivaugError(f"{self.path / name} is damaged: {error}") from error
        if not isinstance(found, dict):
            raise DivaugError(f"{self.path / name} is damaged: it holds no table")
        return found

    def other_versions(self) -> list[str]:
        """Return what a continued run was started with, where this process has another version: "torch 2.12.0"."""
        now, before = environment(), self._json("environment.json")
        kept = ("divaug", "commit", "python", "torch", "torchvision", "timm", "numpy")
        return [f"{key} {before[key]}, now {now[key]}" for key in kept if key in before and before[key] != now[key]]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other processes."""
        with exclusive(make_folder(self.path) / "run.lock", wait=False):
            yield

    def adopt(self, config: Config, manifest: dict[str, Any]) -> None:
        """Record the run in its folder, or make sure that the folder holds the same run.

        Raises:
            ConfigError: The folder holds a run that differs in a key that matters.
            DataError: The data are not those of the folder's run.
        """
        config = replace(absolute(config), experiment=self.experiment)  # with it, --config leads back to this folder
        manifest = {**manifest, **own_files(config)}
        if not self.checkpoint.exists() and not self.finished:  # nothing was trained here yet
            begun = (self.path / "config.toml").exists()
            if begun and (self.metrics.path.exists() or dump(self.config) != dump(config)):
                Note(self.path).renew()  # its MLflow run is of another training, or of one that was given up
            write_json(self.path / "manifest.json", manifest)
            write_json(self.path / "environment.json", environment())
            make_folder(self.checkpoint.parent)
            make_folder(self.figures)
            write_text(self.path / "config.toml", dump(config))
            return
        ours, theirs = (_without_places(each) for each in (config, self.config))
        spelling = {"phases": "phase", "head": "model"}
        for key in (spelling.get(k, k) for k in keys_of_kind("protocol", "method", "seed")):
            if ours.get(key) != theirs.get(key):
                raise ConfigError(
                    f"{self.path} holds a run with {key} = {theirs.get(key)!r}, but this one has {ours.get(key)!r}; "
                    "choose another --experiment or --output-dir"
                )
        if what := self.differs(manifest):
            raise DataError(
                f"{self.path} holds a run with other data: {what} differ; choose another --experiment or "
                "--output-dir, or bring the data back"
            )
        now = recorded(manifest)
        for name, sha256 in recorded(self.manifest).items():
            if now.get(name, sha256) != sha256:
                raise ConfigError(
                    f"{self.path}: {name} has changed since this run began; choose another --experiment or "
                    "--output-dir, or delete the folder"
                )
        if config.resume == "never" and not self.finished:
            raise ConfigError(f"{self.path} holds an unfinished run, but resume is never; use --resume auto")

    def differs(self, manifest: Mapping[str, Any]) -> str | None:
        """Return what of other data is not as in the run, in words; None if they are the same."""
        for key, what in (
            ("class_names", "class names"), ("data", "images, labels or groups of the data set"),
            ("train_sha256", "training images"), ("val_sha256", "validation images"), ("test_sha256", "test images"),
        ):  # fmt: skip
            if self.manifest.get(key) != manifest[key]:
                return what
        return None

    def write_outputs(self, split: str, logits: Any, part: Any) -> None:
        """Write ``<split>_outputs.npz``: logits and labels of a part's images, files, and what stands together."""
        import numpy as np

        beside = {"paths": part.paths, "groups": part.units}
        texts: Any = {key: np.array([str(v) for v in values]) for key, values in beside.items() if values is not None}
        temporary = self.path / f".{split}_outputs.npz"
        np.savez_compressed(temporary, logits=logits, labels=part.labels, **texts)
        temporary.replace(self.path / f"{split}_outputs.npz")

    def outputs(self, split: str = "test") -> Any:
        """Return a DataFrame with a row for every image of the test or validation part.

        Columns: ``path`` and ``group`` (where images have them, or are copies of others), ``label``, ``predicted`` and
        ``logit_<class>``, of the last epoch.

        Args:
            split: "test" or "val".

        Raises:
            DivaugError: The run is not finished, or has no such part.
        """
        import numpy as np
        import pandas as pd

        names, file = self.manifest["class_names"], self.path / f"{split}_outputs.npz"
        if not self.finished or not file.exists():
            raise DivaugError(f"{self.path} has no outputs of a part {split!r}, or is not finished")
        with np.load(file) as found:
            beside = {key: found[f"{key}s"] for key in ("path", "group") if f"{key}s" in found}
            labels, logits = found["labels"], found["logits"]
        return pd.DataFrame({
            **beside, "label": [names[c] for c in labels], "predicted": [names[c] for c in logits.argmax(1)],
            **{f"logit_{name}": logits[:, c] for c, name in enumerate(names)},
        })  # fmt: skip

    def confusion(self) -> Any:
        """Return the confusion matrix of the test part at the last epoch, ``(C, C)``: labels in rows.

        Raises:
            DivaugError: The run is not finished.
        """
        import numpy as np

        from divaug.base.metrics import confusion_matrix

        file = self.path / "test_outputs.npz"
        if not self.finished or not file.exists():
            raise DivaugError(f"{self.path} has no outputs of its test part, or is not finished")
        with np.load(file) as found:
            return confusion_matrix(found["labels"], found["logits"].argmax(1), found["logits"].shape[1])

    def write_per_class(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write ``per_class.parquet``: one row per epoch and class, one column per statistic."""
        import numpy as np
        import pandas as pd

        from divaug.base.groups import rank_groups

        manifest = self.manifest
        group = {c: name for name, classes in rank_groups(np.array(manifest["group_counts"])).items() for c in classes}
        of_class = {
            "class": range(len(group)), "class_name": manifest["class_names"], "n_train": manifest["counts"],
            "group": [group[c] for c in range(len(group))],
        }  # fmt: skip
        frames = [pd.DataFrame({"epoch": row["epoch"], **of_class, **row["per_class"]}) for row in rows]
        table = pd.concat(frames, ignore_index=True)
        temporary = self.path / "per_class.parquet.tmp"
        table.to_parquet(temporary, index=False)
        temporary.replace(self.table)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _are(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(item, kind) for item in value)


_MANIFEST: dict[str, Callable[[Any], bool]] = {
    "class_names": _are(str), "counts": _are(int), "group_counts": _are(int), "mean": _are(float), "std": _are(float),
    "image_shape": _are(int), "data": lambda value: isinstance(value, str),
}  # fmt: skip


def _without_places(config: Config) -> dict[str, Any]:
    """Return a configuration's table with the content of its encoder and extra images instead of their places."""
    table = to_table(config)
    if config.encoder is not None:
        table["encoder"] = Path(config.encoder).name  # ends in a hash of its content
    if config.extra_train is not None:
        table["extra_train"] = content_name(config.extra_train)
    return table


def open_run(path: str | Path) -> RunFolder:
    """Return the run in a folder, finished or not."""
    return RunFolder(path)


def environment() -> dict[str, Any]:
    """Return versions, machine, commit and command line: what a result depends on besides its configuration."""
    import torch

    checkout = Path(__file__).parents[2]  # an installed package may lie in a checkout of something else
    git = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"],
        capture_output=True, text=True, check=False,
    ) if which("git") and (checkout / ".git").exists() else None  # fmt: skip
    packages = ("torch", "torchvision", "timm", "numpy", "mlflow")
    return {
        "commit": git.stdout.strip() or None if git else None,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "threads": torch.get_num_threads(),
        "command": [without_password(argument) for argument in sys.argv],
        "divaug": __version__,
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # what a run does not use may be missing on a compute node
        return None


def _is_artifact(file: Path) -> bool:
    """Return whether a file is MLflow's copy: ``<32 hex digits>/artifacts/<file>``."""
    folder = file.resolve().parent
    return folder.name == "artifacts" and re.fullmatch("[0-9a-f]{32}", folder.parent.name) is not None


def find_runs(paths: list[str]) -> list[RunFolder]:
    """Return the run folders at or below the given paths, sorted; the copies that MLflow keeps are none.

    Raises:
        DivaugError: A path has no run folder at or below it.
    """
    found: dict[Path, RunFolder] = {}
    for path in paths:
        below = [file for file in sorted(Path(path).rglob("config.toml")) if not _is_artifact(file)]
        if not below:
            raise DivaugError(f"no run folder at or below {path}")
        found |= {file.parent.resolve(): RunFolder(file.parent) for file in below}
    return list(found.values())

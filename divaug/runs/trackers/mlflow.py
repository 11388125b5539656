"""The mirror of a run in MLflow; the only module that imports mlflow.

Everything goes through ``MlflowClient`` by run id, never through mlflow's global state. A failing tracking store
never stops training: the run folder is complete, and ``python -m divaug.recipes.upload`` mirrors it afterwards.
"""

import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

from divaug.base.errors import Interrupted
from divaug.base.files import exclusive, is_locked, make_folder
from divaug.base.record import goes_to_mlflow

RUN_ID = "mlflow_run_id.txt"  # in a run folder: the MLflow run that mirrors it
_VALUE_LENGTH = 500  # older and remote servers refuse longer parameter values
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100


def store_uri(output_dir: Path) -> str:
    """Return the absolute SQLite URI of the store in an output folder; ``?`` and ``%`` in its path are quoted."""
    path = str(output_dir.resolve() / "mlflow.db")
    return f"sqlite:///{quote(path) if set(path) & set('?%') else path}"


def server_command(uri: str) -> str:
    """Return the command that opens the store in a browser; jobs off and one worker start it in seconds."""
    if uri.startswith(("http://", "https://", "databricks")):
        return f"open {shlex.quote(uri)}"
    return (
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "
        f"{shlex.quote(sys.executable)} -m mlflow server --workers 1 --port 5000 "
        f"--backend-store-uri {shlex.quote(uri)}"
    )


def _remove_misspelt(uri: str) -> None:
    """Remove the empty folder that MLflow makes for a database whose path is quoted in its URI."""
    path = uri.removeprefix("sqlite:///")
    if uri.startswith("sqlite:///") and unquote(path) != path:
        with suppress(OSError):  # it is none, or not empty
            os.removedirs(os.path.dirname(path))


def set_quiet_defaults() -> None:
    """Turn telemetry off and keep an unreachable server from holding up training, unless the user chose otherwise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


class MlflowTracker:
    """Mirror one run's main numbers and its files; a context manager.

    It ends the MLflow run with its true status: FINISHED, FAILED, or KILLED when interrupted.

    Args:
        uri: Tracking URI.
        output_dir: Folder of all runs; holds the lock of the store's first use, and the artifacts of a SQLite store.
        experiment: Name of the experiment.
        run_name: Name of the run.
        folder: The run folder; it stores the run id, so that a resumed run continues the same MLflow run.
        params: Configuration, logged once.
        tags: Further values to filter by.
        say: Takes one line for the user.
    """

    def __init__(
        self,
        uri: str,
        *,
        output_dir: Path,
        experiment: str,
        run_name: str,
        folder: Path,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.uri, self.output_dir, self.experiment, self.run_name = uri, output_dir, experiment, run_name
        self.folder, self.params, self.tags, self.say = folder, params, tags, say
        self.run_id = ""
        self.owned = True
        self.steps: set[int] = set()  # epochs that the store has
        self.status = "FINISHED"  # how the run ends unless an exception occurs
        self._client: Any = None

    def __enter__(self) -> "MlflowTracker":
        self._guard(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = self.status
        if error is not None:
            status = "KILLED" if isinstance(error, Interrupted | KeyboardInterrupt) else "FAILED"
        if self.owned:
            self._guard(lambda: self._client.set_terminated(self.run_id, status=status))

    @property
    def alive(self) -> bool:
        """Whether everything so far reached the store."""
        return self._client is not None

    def _guard(self, action: Callable[[], Any]) -> Any:
        """Do something with the store; the first failure is reported and ends the mirroring, not the training."""
        if self._client is None and action != self._start:
            return None
        try:
            return action()
        except Exception as error:
            self._client = None
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.say(
                f"tracking failed ({first}); training continues and the run folder is complete. "
                f"Mirror it afterwards with: python -m divaug.recipes.upload {shlex.quote(str(self.folder))}"
            )
            return None

    def _start(self) -> None:
        set_quiet_defaults()
        active = sys.modules["mlflow"].active_run() if "mlflow" in sys.modules else None
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # mlflow sets its own level when it is imported
            logging.getLogger(name).setLevel(logging.WARNING)
        if active is not None:  # the user's own run: log into it, never end it
            self._client, self.run_id, self.owned = MlflowClient(), active.info.run_id, False
        else:
            # Two processes that migrate a fresh SQLite store at once both crash.
            with exclusive(make_folder(self.output_dir) / "mlflow.lock", wait=True):
                client = MlflowClient(self.uri)
                _remove_misspelt(self.uri)
                experiment_id = self._experiment(client)
            self._client = client
            self._sweep(experiment_id)
            self._open_run(experiment_id)
        self._log_params()

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return found.experiment_id
        local = self.uri.startswith("sqlite:")
        # By default a SQLite store puts artifacts below the current working directory.
        place = (self.output_dir.resolve() / "mlartifacts" / self.experiment).as_uri() if local else None
        return client.create_experiment(self.experiment, artifact_location=place)

    def _open_run(self, experiment_id: str) -> None:
        from mlflow.exceptions import MlflowException

        if noted := self._noted():
            try:
                self.run_id = self._client.get_run(noted).info.run_id
                self._client.update_run(self.run_id, status="RUNNING")
                history = self._client.get_metric_history(self.run_id, "train/loss")
                self.steps = {point.step for point in history}
            except MlflowException:  # another store, or the run was deleted by hand: begin a new one
                self.run_id = ""
        if not self.run_id:
            run = self._client.create_run(experiment_id, run_name=self.run_name)
            self.run_id = run.info.run_id
            (self.folder / RUN_ID).write_text(self.run_id, encoding="utf-8")
        mine = {
            "divaug.host": socket.gethostname(),
            "divaug.pid": str(os.getpid()),
            "divaug.folder": str(self.folder),
        }
        for key, value in {**self.tags, **mine}.items():
            self._client.set_tag(self.run_id, key, value[:_VALUE_LENGTH])

    def _noted(self) -> str | None:
        note = self.folder / RUN_ID
        return note.read_text(encoding="utf-8").strip() if note.exists() else None

    def _sweep(self, experiment_id: str) -> None:
        """End runs whose process died suddenly (kill -9, power cut) on this machine: KILLED, unless finished."""
        query = f"attributes.status = 'RUNNING' and tags.`divaug.host` = '{socket.gethostname()}'"
        for run in self._client.search_runs([experiment_id], query):
            folder = Path(run.data.tags.get("divaug.folder", ""))
            lock = folder / "run.lock"
            ours = folder == self.folder  # locked by this process: any other run of this folder is dead
            if run.info.run_id != self._noted() and (ours or not (lock.exists() and is_locked(lock))):
                finished = (folder / "result.json").exists()
                self._client.set_terminated(run.info.run_id, status="FINISHED" if finished else "KILLED")

    def _log_params(self) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        params = [Param(k, str(v)[:_VALUE_LENGTH]) for k, v in self.params.items() if k not in known]
        for start in range(0, len(params), _BATCH_PARAMS):
            self._client.log_batch(self.run_id, params=params[start : start + _BATCH_PARAMS])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch; an epoch that was logged before a resume is left unchanged."""
        if step not in self.steps:
            self._guard(lambda: self._log(metrics, step))
            self.steps.add(step)

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Log results once, at step 0: MLflow draws them as bars across runs."""

        def once() -> None:
            known = self._client.get_run(self.run_id).data.metrics
            self._log({key: value for key, value in metrics.items() if key not in known}, 0)

        self._guard(once)

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(key, float(value), now, step) for key, value in metrics.items() if self._shown(key)]
        for start in range(0, len(points), _BATCH_METRICS):
            self._client.log_batch(self.run_id, metrics=points[start : start + _BATCH_METRICS])

    @staticmethod
    def _shown(key: str) -> bool:
        """Return whether a metric goes to MLflow; one that the table of metric names lacks (a study's) does."""
        try:
            return goes_to_mlflow(key)
        except KeyError:
            return True

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder."""
        upload = "log_artifacts" if path.is_dir() else "log_artifact"
        self._guard(lambda: getattr(self._client, upload)(self.run_id, str(path), folder))


class NoTracker:
    """The tracker of ``--tracking off``: there is only the run folder."""

    uri = ""
    status = "FINISHED"
    alive = True

    def __enter__(self) -> "NoTracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Do nothing."""

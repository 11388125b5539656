"""The mirror of a run in MLflow.

Everything goes through ``MlflowClient`` by run id, never through mlflow's global state. A failing tracking store
never stops training: the run folder is complete, and ``python -m divaug.recipes.upload`` mirrors it afterwards.
"""

import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from divaug.base.errors import Interrupted
from divaug.base.files import is_locked, write_json
from divaug.base.record import goes_to_mlflow
from divaug.base.text import without_password
from divaug.runs.trackers.store import VIEW, first_use, follow_move, has_ended, remove_misspelt, sqlite_file

_COLUMNS = (
    "params.`label`", "params.`seed`", "metrics.`final/test_bal_acc`", "metrics.`final/test_prior_corrected_bal_acc`",
    "metrics.`final/test_acc_head`", "metrics.`final/test_acc_mid`", "metrics.`final/test_acc_tail`",
    "metrics.`final/test_worst_class_acc`", "metrics.`final/train_clean_acc_tail`",
)  # fmt: skip
_VALUE_LENGTH = 500  # older and remote servers refuse longer parameter values
_HOLDS = "divaug.holds"  # tag of a run of the user's: the token of our run that is logged into it
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100


def set_quiet_defaults() -> None:
    """Turn telemetry off and keep an unreachable server from holding up training, unless the user chose otherwise."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


class Note:
    """What a run folder knows of its mirrors (``mlflow.json``).

    Attributes:
        token: Stands in a tag of the folder's MLflow runs: whoever reads folder and store knows that they belong
            together, wherever the folder was moved.
        earlier: Tokens of runs with other parameters that the folder held before.
        stores: For each store's address: experiment, run, and whether everything is there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mlflow.json"
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            self.token, self.earlier = str(found["token"]), [str(token) for token in found["earlier"]]
            self.stores: dict[str, dict[str, Any]] = {str(uri): dict(at) for uri, at in found["stores"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or a damaged one
            self.token, self.earlier, self.stores = uuid4().hex, [], {}

    def write(self) -> None:
        """Write the note."""
        write_json(self.path, {"token": self.token, "earlier": self.earlier, "stores": self.stores})

    def at(self, uri: str) -> dict[str, Any]:
        """Return what is known of a store; empty if nothing is."""
        return self.stores.get(without_password(uri), {})

    def keep(self, uri: str, **known: Any) -> None:
        """Remember something about a store."""
        self.stores[without_password(uri)] = {**self.at(uri), **known}
        self.write()

    def renew(self) -> None:
        """Begin another MLflow run in every store: the folder's run has other parameters now."""
        if self.path.exists():
            self.token, self.earlier, self.stores = uuid4().hex, [*self.earlier, self.token], {}
            self.write()


def is_mirrored(folder: Path, uri: str) -> bool:
    """Return whether a store has a finished run whole, as far as can be seen without asking a server."""
    known = Note(folder).at(uri)
    return bool(known.get("whole")) and has_ended(uri, str(known.get("run")))


class MlflowTracker:
    """Mirror one run's main numbers and its files; a context manager.

    It ends the MLflow run with its true status: FINISHED, FAILED, or KILLED when interrupted.

    Args:
        uri: Tracking URI.
        output_dir: Folder of all runs; holds the artifacts of a SQLite store.
        experiment: Name of the experiment.
        run_name: Name of the run.
        folder: The run folder; it notes its MLflow runs, so that a resumed run continues the same one.
        params: Configuration, logged once.
        tags: Further values to filter by.
        description: Of the experiment, in Markdown.
        say: Takes one line for the user.
        again: Command that mirrors it afterwards, for what is no run; "" is upload's.
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
        description: str,
        say: Callable[[str], None],
        again: str = "",
    ) -> None:
        self.kept = f"{folder} is complete" if again else "training continues and the run folder is complete"
        self.again = again or f"python -m divaug.recipes.upload {shlex.quote(str(folder))}"
        self.uri, self.output_dir, self.experiment, self.run_name = uri, output_dir, experiment, run_name
        self.folder, self.params, self.tags, self.description, self.say = folder, params, tags, description, say
        self.note = Note(folder)
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
            self._guard(lambda: self._end(status))

    def _end(self, status: str) -> None:
        self._client.set_terminated(self.run_id, status=status)
        self.note.keep(self.uri, whole=status == "FINISHED" and (self.folder / "result.json").exists())

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
                f"tracking failed ({without_password(first)}); {self.kept}. Mirror it afterwards with: {self.again}"
            )
            return None

    def _start(self) -> None:
        set_quiet_defaults()
        active = sys.modules["mlflow"].active_run() if "mlflow" in sys.modules else None
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # mlflow sets its own level when it is imported
            logging.getLogger(name).setLevel(logging.WARNING)
        if active is not None:
            self._within(MlflowClient(), active.info)
        else:
            artifacts = self.output_dir.resolve() / "mlartifacts"
            place = (artifacts / self.experiment).as_uri()
            with first_use(self.uri, artifacts):
                follow_move(self.uri, self.experiment, place)
                client = MlflowClient(self.uri)
                remove_misspelt(self.uri)
                # By default a SQLite store puts artifacts below the current working directory.
                experiment_id = self._experiment(client, place if sqlite_file(self.uri) else None)
            self._client = client
            self._sweep(experiment_id)
            self._open_run(experiment_id)
        self._log_params()

    def _within(self, client: Any, active: Any) -> None:
        """Log into the user's own run and never end it; a second run of ours becomes one of its children."""
        whose = client.get_run(active.run_id).data.tags.get(_HOLDS)
        self._client = client
        if whose in (None, self.note.token):
            self.note.write()
            client.set_tag(active.run_id, _HOLDS, self.note.token)
            self.run_id, self.owned = active.run_id, False
            if whose is not None:  # without the tag, a train/loss that is there is the user's
                self.steps = {point.step for point in client.get_metric_history(self.run_id, "train/loss")}
            return
        self.uri = client.tracking_uri
        self._open_run(active.experiment_id, parent=active.run_id)

    def _experiment(self, client: Any, place: str | None) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                client.create_experiment(self.experiment, artifact_location=place)
            except MlflowException:  # another process was faster
                if client.get_experiment_by_name(self.experiment) is None:
                    raise
            found = client.get_experiment_by_name(self.experiment)
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        view = {"selectedColumns": _COLUMNS, "orderByKey": "metrics.`final/test_bal_acc`", "orderByAsc": False}
        told = {"mlflow.note.content": self.description, f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}
        for key, value in told.items():
            if key not in found.tags:  # what a person has changed stays
                client.set_experiment_tag(found.experiment_id, key, value)
        return found.experiment_id

    def _open_run(self, experiment_id: str, parent: str = "") -> None:
        mine = {
            **self.tags, "divaug.host": socket.gethostname(), "divaug.pid": str(os.getpid()),
            "divaug.folder": str(self.folder), "divaug.token": self.note.token,
        }  # fmt: skip
        tags = {key: value[:_VALUE_LENGTH] for key, value in mine.items()}
        query = f"tags.`divaug.token` = '{self.note.token}'"
        self.note.write()  # before the run is made, so that it is found again whenever this process dies
        if found := self._client.search_runs([experiment_id], query, max_results=1):
            self.run_id = found[0].info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
            history = self._client.get_metric_history(self.run_id, "train/loss")
            self.steps = {point.step for point in history}
            for key, value in tags.items():
                self._client.set_tag(self.run_id, key, value)
        else:
            tags |= {"mlflow.parentRunId": parent} if parent else {}
            self.run_id = self._client.create_run(experiment_id, run_name=self.run_name, tags=tags).info.run_id
        self.note.keep(self.uri, experiment=experiment_id, run=self.run_id, whole=False)

    def _sweep(self, experiment_id: str) -> None:
        """End runs whose process died suddenly (kill -9, power cut): KILLED, unless finished.

        Only those whose folder can be seen from here, holds their token and is not locked: runs of other hosts and
        users stay as they are.
        """
        query = f"attributes.status = 'RUNNING' and tags.`divaug.host` = '{socket.gethostname()}'"
        for run in self._client.search_runs([experiment_id], query):
            folder, token = Path(run.data.tags.get("divaug.folder", "")), run.data.tags.get("divaug.token")
            note = Note(folder)
            ours = folder == self.folder  # locked by this process: an earlier run of this folder is dead
            if token in note.earlier or (token == note.token and not ours):
                lock = folder / "run.lock"
                if ours or not (lock.exists() and is_locked(lock)):
                    finished = token == note.token and (folder / "result.json").exists()
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

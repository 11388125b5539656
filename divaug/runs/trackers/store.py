"""A tracking store as such: its address, how it is first made, what it holds, and how to look at it."""

import os
import shlex
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from divaug.base.files import exclusive, make_folder
from divaug.base.text import without_password

VIEW = "divaug"  # the saved view of an experiment's runs: the columns that matter, sorted


def store_uri(output_dir: Path) -> str:
    """Return the absolute SQLite URI of the store in an output folder; ``?`` and ``%`` in its path are quoted."""
    return _uri_of(output_dir.resolve() / "mlflow.db")


def _uri_of(file: Path) -> str:
    path = str(file)
    return f"sqlite:///{quote(path) if set(path) & set('?%') else path}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, None for any other."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).absolute()


@contextmanager
def first_use(uri: str, artifacts: Path) -> Iterator[None]:
    """Hold the store's lock and make the store if it is missing: two processes that make one at once both crash.

    A SQLite store is made aside and then renamed, so that a process that dies leaves none or a whole one.

    Args:
        uri: The store.
        artifacts: The folder for artifacts of experiments that name none.
    """
    file = sqlite_file(uri)
    if file is None:  # a server, or a database of its own
        yield
        return
    with exclusive(make_folder(file.parent) / f"{file.name}.lock", wait=True):
        if not _is_made(file):
            _make(file, artifacts)
        yield


def _is_made(file: Path) -> bool:
    """Return whether there is a store, or anything else that must not be replaced.

    A store that a dead process left half made has a table of experiments and nothing in any table, while MLflow gives
    every store a first experiment.
    """
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            if tables and "experiments" not in tables:
                return True  # somebody else's
            full = [name for name in tables if database.execute(f'select 1 from "{name}" limit 1').fetchone()]
            return bool(set(full) - {"alembic_version"})
    except sqlite3.Error:
        return True  # whatever opens it says what is wrong


def _make(file: Path, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    aside = file.with_name(f".{file.name}.new")
    for left in (aside, aside.with_name(aside.name + "-journal"), file.with_name(file.name + "-journal")):
        left.unlink(missing_ok=True)  # of a process that died
    store = SqlAlchemyStore(_uri_of(aside), artifacts.as_uri())
    store._dispose_engine()
    aside.replace(file)
    remove_misspelt(_uri_of(aside))


def remove_misspelt(uri: str) -> None:
    """Remove the empty folder that MLflow makes for a database whose path is quoted in its URI."""
    path = uri.removeprefix("sqlite:///")
    if uri.startswith("sqlite:///") and unquote(path) != path:
        with suppress(OSError):  # it is none, or not empty
            os.removedirs(Path(path).parent)


def follow_move(uri: str, experiment: str, place: str) -> None:
    """Correct the artifact location of an experiment whose output folder was moved with its store.

    Args:
        uri: The store.
        experiment: Name of the experiment.
        place: URI of the folder that holds the experiment's artifacts now.
    """
    file = sqlite_file(uri)
    if file is None or file.parent.resolve() != Path(unquote(place.removeprefix("file://"))).parents[1]:
        return  # a store that other output folders may share
    with closing(sqlite3.connect(file)) as database, database:
        found = database.execute(
            "select experiment_id, artifact_location from experiments where name = ?", (experiment,)
        ).fetchone()
        tail = "/" + "/".join(place.rsplit("/", 2)[1:])  # mlartifacts/<experiment>
        if found is None or found[1] == place or not str(found[1]).endswith(tail):
            return
        if Path(unquote(str(found[1]).removeprefix("file://"))).exists():
            return  # it is still there: somebody's choice
        database.execute("update experiments set artifact_location = ? where experiment_id = ?", (place, found[0]))
        database.execute(
            "update runs set artifact_uri = ? || substr(artifact_uri, ?) where experiment_id = ? and "
            "substr(artifact_uri, 1, ?) = ?",
            (place, len(found[1]) + 1, found[0], len(found[1]), found[1]),
        )


def has_ended(uri: str, run_id: str) -> bool:
    """Return whether a store has a run that has ended; a store that is no file is not asked."""
    file = sqlite_file(uri)
    if file is None:
        return True
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            query = "select 1 from runs where run_uuid = ? and status <> 'RUNNING' and lifecycle_stage = 'active'"
            return database.execute(query, (run_id,)).fetchone() is not None
    except sqlite3.Error:
        return False


def server_command(uri: str) -> str:
    """Return the command that opens the store in a browser; jobs off and one worker start it in seconds."""
    if uri.startswith(("http://", "https://", "databricks")):
        return f"open {shlex.quote(without_password(uri))}"
    return (
        "MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false "
        f"{shlex.quote(sys.executable)} -m mlflow server --workers 1 --port 5000 "
        f"--backend-store-uri {shlex.quote(without_password(uri))}"
    )


def page_of(uri: str, experiment_id: str | None) -> str:
    """Return the address of an experiment's runs in the browser, in the view made for them."""
    server = without_password(uri).rstrip("/") if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return server if experiment_id is None else f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"

"""Methods x seeds on one data set: every run is trained once, and its row is written when it ends."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from divaug.base.errors import DivaugError, DivergedError
from divaug.base.progress import Progress
from divaug.config.jobs import Cluster
from divaug.config.schema import Config
from divaug.data.load import Data, load_data, varied
from divaug.report import results
from divaug.runs.folder import RunFolder
from divaug.runs.loop import run
from divaug.study.runner import Task, run_tasks
from divaug.train.distributed import check, join


def train_methods(
    configs: Sequence[Config], folders: Sequence[RunFolder], *, rows: Path | None = None, jobs: int | Cluster = 1
) -> None:
    """Train all runs, or continue where they stopped; finished ones are only read.

    Args:
        configs: One per run; methods and seeds of one protocol.
        folders: The folder of each.
        rows: CSV that gets one row per finished run; runs already in it are not trained again.
        jobs: Processes, one thread each; 1 trains in this process. Or a Ray cluster.

    Raises:
        DataError: Data are missing or damaged; nothing was trained.
        Interrupted: A signal came; checkpoints were written.
        DivergedError: Runs diverged; all others are trained.
        DivaugError: A run failed.
    """
    progress = Progress(configs[0].progress)
    ranks = join(configs[0].device)
    for config in configs:
        check(config, ranks)
    if rows is not None and ranks.rank == 0:
        results.check_writable(rows)
    if ranks.rank > 0:
        ranks.wait()  # the first process may have to fetch the data
    loaded: dict[Any, Data] = {}  # before the first run, because it may be refused
    for config in configs:
        if config.extra_train not in {extra for extra, *_ in loaded}:
            loaded[_data_key(config)] = load_data(config)
    if ranks.rank == 0:
        ranks.wait()
    for note in next(iter(loaded.values())).notes:
        progress.say(f"note: {note}")
    identity = next(iter(loaded.values())).identity
    pairs = list(zip(configs, folders, strict=True))
    missing = [pair for pair in pairs if rows is None or not results.known(rows, pair[0], identity)]
    for config, folder in pairs:
        if (config, folder) not in missing:
            progress.say(f"{folder.label}, seed {config.seed}: its row is in {rows}")
    tasks = [
        Task(
            f"{folder.experiment}: {folder.label}, seed {config.seed} -> {_shown(folder.path)}",
            partial(
                _train_one,
                config,
                folder.path,
                rows if ranks.size == 1 else None,
                loaded.get(_data_key(config)) if jobs == 1 else None,
                alone=jobs == 1,
            ),
        )
        for config, folder in missing
    ]

    def add_row(number: int, path: Path | None) -> None:
        """Write the row of a run that has ended; in this process only."""
        if rows is None or path is None or ranks.rank > 0:
            return
        config, folder = missing[number][0], RunFolder(path)
        try:
            results.add(rows, config, folder)
        except Exception as error:  # the run is finished, and its result is in its folder
            said = f"no row of {_shown(folder.path)} in {rows} ({type(error).__name__}: {error})"
            progress.warn(f"{said}; the same command adds it")

    run_tasks(tasks, jobs=jobs, say=progress.say, finished=add_row)


def _data_key(config: Config) -> Any:
    """Return what the data depend on among methods and seeds."""
    return config.extra_train, *varied(config)


def _shown(path: Path) -> Path:
    """Return the shortest form of a path from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _train_one(config: Config, path: Path, rows: Path | None, data: Data | None, *, alone: bool) -> Path | None:
    """Train one run, where it is to be trained; return its folder, None if another process has added its row since."""
    data = data or load_data(config)
    if rows is not None and results.known(rows, config, data.identity):
        return None
    if not alone and config.progress in ("auto", "bar"):  # one of several processes on one terminal
        config = replace(config, progress="lines")
    try:
        return run(config, RunFolder(path), data).path
    except DivergedError as error:
        if join(config.device).size == 1:
            raise
        raise DivaugError(str(error)) from error  # the other ranks need not have seen it, so none goes on

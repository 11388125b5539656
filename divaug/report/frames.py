"""Runs as DataFrames: one row per run, or one row per run and class."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import DivaugError
from divaug.report.results import key_of
from divaug.runs.folder import RunFolder, find_runs

Paths = str | Path | RunFolder | Sequence[str | Path | RunFolder]


def runs_at(paths: Paths) -> list[RunFolder]:
    """Return the run folders that are named, or lie at or below the folders that are named, finished or not.

    Raises:
        DivaugError: A path has no run folder at or below it.
    """
    several = [paths] if isinstance(paths, str | Path | RunFolder) else list(paths)
    return find_runs([str(one.path if isinstance(one, RunFolder) else one) for one in several])


def read_runs(paths: Paths, *, classes: bool = False) -> Any:
    """Return finished runs as a DataFrame; a network of all images, which is tested on nothing, has no row.

    Args:
        paths: Run folders, folders with runs below them, or several of both.
        classes: One row per run and class, of the last epoch, instead of one row per run.

    Returns:
        Columns ``experiment``, ``protocol``, ``data``, ``method``, ``seed``, ``run`` (its folder: a seed or a fold),
        ``path``; then every final metric under
        its name (``test_bal_acc``, ``test_acc_tail``, ...; NaN where undefined), or with ``classes`` the columns of
        ``per_class.parquet`` (``class_name``, ``n_train``, ``group``, ``test/recall``, ...). Only rows of one protocol
        and one data set can be compared.

    Raises:
        DivaugError: There is no finished run.

    Example:
        >>> import divaug, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     keys = {"dataset": "digits", "epochs": 1, "tracking": "off", "progress": "none"}
        ...     run = divaug.run(divaug.configure(**keys, output_dir=folder))
        ...     table = divaug.read_runs(folder)
        >>> table[["method", "seed"]].values.tolist(), "test_bal_acc" in table
        ([['erm', 0]], True)
    """
    import pandas as pd

    rows = []
    for folder in runs_at(paths):
        manifest = folder.manifest if folder.finished else {}
        if not manifest or manifest["train_sha256"] == manifest["test_sha256"]:  # the network of all images
            continue
        key = {
            **key_of(folder.config, manifest["data"]),
            "method": folder.label,
            "run": folder.path.name,
            "path": str(folder.path),
        }
        if not classes:
            final = {name.removeprefix("final/"): v for name, v in folder.result.items() if name.startswith("final/")}
            rows.append(pd.DataFrame([key | {name: math.nan if v is None else v for name, v in final.items()}]))
            continue
        if not folder.table.exists():
            raise DivaugError(f"{folder.table} is missing: run the run's command again, which writes it")
        table = pd.read_parquet(folder.table)
        last: Any = table[table["epoch"] == table["epoch"].max()].drop(columns="epoch")
        rows.append(last.assign(**key)[[*key, *last.columns]])
    if not rows:
        raise DivaugError(f"no finished run at or below {paths}")
    return pd.concat(rows, ignore_index=True)

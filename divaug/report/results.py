"""Results of finished runs as rows of one CSV: the record of a study of many runs, and of which runs are done."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import ConfigError, DivaugError
from divaug.base.files import exclusive, write_text
from divaug.base.record import TITLES
from divaug.base.text import span
from divaug.config.layers import experiment_name, method_label
from divaug.config.schema import Config
from divaug.config.tables import protocol_fingerprint
from divaug.report.compare import code_digest, mean_sd, split_of
from divaug.report.contrasts import METRICS, RECALL
from divaug.runs.folder import RunFolder
from divaug.runs.own_files import own_files, recorded

KEYS = ("experiment", "protocol", "data", "method", "seed")


def key_of(config: Config, data: str) -> dict[str, Any]:
    """Return what identifies a run: experiment, protocol fingerprint, data, method with its changes, seed.

    Args:
        config: The run.
        data: The identity of its data set (``Data.identity``, ``data`` in a manifest).
    """
    return {
        "experiment": experiment_name(config), "protocol": protocol_fingerprint(config), "data": data,
        "method": method_label(config), "seed": config.seed,
    }  # fmt: skip


def read(path: Path) -> Any:
    """Return the rows, or an empty DataFrame if there is no file yet.

    Raises:
        DivaugError: The file is not a CSV of results.
    """
    import pandas as pd

    if not path.exists() or not path.stat().st_size:
        return pd.DataFrame(columns=list(KEYS))
    # A hash may look like a number, and a name like a missing value.
    names = [key for key in KEYS if key != "seed"]
    try:
        others = [column for column in pd.read_csv(path, nrows=0).columns if column not in names]
        missing: Any = {column: ["", "nan"] for column in others}
        texts: Any = dict.fromkeys([*names, *({"code", "train_part", "test_part", "version"} & {*others})], str)
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=missing)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DivaugError(f"{path} cannot be read as a CSV of results: {error}") from error
    if missing := [key for key in KEYS if key not in table]:
        raise DivaugError(f"{path} holds no results: it lacks {', '.join(missing)}")
    table[names] = table[names].apply(lambda column: column.str.strip())
    for key in KEYS:
        empty: Any = table[key].isna() if key == "seed" else table[key] == ""
        if bool(empty.any()):
            raise DivaugError(
                f"{path}, row {int(empty.argmax()) + 2}: {key} is empty, so it is not known what it is of"
            )
    for column in [name for name in table if name in METRICS or name.startswith(RECALL)]:
        share: Any = pd.to_numeric(table[column], errors="coerce")
        if (wrong := ~share.between(0, 1) & table[column].notna()).any():
            at = int(wrong.argmax())
            raise DivaugError(
                f"{path}, row {at + 2}: {column} must be a share from 0 to 1, or empty, got {table[column].iloc[at]}"
            )
    return table


def check_writable(path: Path) -> None:
    """Make sure, before anything is trained, that rows can be written to a CSV.

    Raises:
        ConfigError: It cannot be written.
        DivaugError: The file is there and is not a CSV of results.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"--results {path} is {'a folder' if path.is_dir() else 'no file'}; name a CSV file")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # its own: another process may be writing
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # the file is replaced, so its folder must be writable
        temporary.unlink()
        if path.exists():
            with path.open("a"):
                pass
    except OSError as error:
        raise ConfigError(f"--results {path} cannot be written: {error.strerror}; choose another file") from error
    read(path)


def known(path: Path, config: Config, data: str) -> bool:
    """Return whether the CSV has a run's row: one of the same protocol, data, method, seed and own files."""
    table, key = read(path), key_of(config, data)
    same = ("protocol", "data", "method", "seed")
    rows = table[(table[list(same)] == [key[name] for name in same]).all(axis=1)]
    codes = set(rows["code"].dropna()) if "code" in rows else set()
    return len(rows) > 0 and (not codes or code_digest(recorded(own_files(config))) in codes)


def add(path: Path, config: Config, folder: RunFolder) -> None:
    """Append a finished run's row.

    Args:
        path: The CSV.
        config: The run as requested; what data and machine resolve (image size, precision) does not distinguish runs.
        folder: The run.
    """
    numbers = {name.removeprefix("final/"): v for name, v in folder.result.items() if name.startswith("final/")}
    last = folder.metrics.rows()[-1]["per_class"]
    recall, corrected = last["test/recall"], last["test/prior_corrected_recall"]
    of_class = {}
    for kind, values in (("recall", recall), ("prior_corrected_recall", corrected)):
        of_class |= {f"{kind}_{c}": v for c, v in zip(folder.manifest["class_names"], values, strict=True)}
    space = {} if config.encoder is None else {"encoder": Path(config.encoder).name}
    key = key_of(config, folder.manifest["data"])
    append(path, {**key, **_told(config.preset, folder), **space, **numbers, **of_class})


def _told(preset: str, folder: RunFolder) -> dict[str, Any]:
    """Return what a row says of a run beside its key and its numbers."""
    config, code = folder.config, code_digest(recorded(folder.manifest))
    told = {"preset": preset, "vary": config.vary, "epochs": config.epochs, "precision": config.precision}
    told |= split_of(folder) | {"version": folder.version}
    return told | ({"code": code} if code else {})


def key_beside(path: Path, folder: RunFolder) -> dict[str, Any]:
    """Return a finished run's key as in its row, and what rows say of the run beside their numbers.

    The folder's configuration also holds what the machine resolved, so the key is that of the row if there is one.
    """
    key, table = key_of(folder.config, folder.manifest["data"]), read(path)
    same = [name for name in KEYS if name != "protocol"]
    rows = table[(table[same] == [key[name] for name in same]).all(axis=1)]
    key |= {"protocol": rows["protocol"].iloc[-1]} if len(rows) else {}
    return key | _told(folder.config.preset, folder)


def append(path: Path, values: dict[str, Any]) -> None:
    """Append a row, replacing an older one with the same key.

    The whole file is written anew, so that a crash leaves the old file or the new one.
    """
    import pandas as pd

    row = pd.DataFrame([values])
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.with_name(f".{path.name}.lock"), wait=True):  # two processes may share the work
        old = read(path)
        old = old[(old[list(KEYS)] != row[list(KEYS)].iloc[0]).any(axis=1)]
        table = pd.concat([old, row], ignore_index=True) if len(old) else row
        order = [key for key in ("experiment", "epochs", "method", "seed") if key in table]
        table = table.sort_values(order, kind="stable")
        counts = [
            name for name, column in table.select_dtypes("float").items() if (column.dropna() % 1 == 0).all()
        ]  # a row without a count made floats of them all, which five digits would round
        table = table.astype(dict.fromkeys(counts, "Int64"))
        write_text(path, table.to_csv(index=False, float_format="%.5g"))


def summary(table: Any) -> Any:
    """Return mean ± sd over seeds for each protocol, data set and method: recalls in %, rarefied numbers unchanged.

    The rarefied numbers are of the tail: top-K CE of clean training images in the run's own space, and top-K FE of the
    last epoch's views, mixed ones included, in the common encoder's space. Both are at the larger m of 20 and 5 that
    the rows have, in images for the first and in views for the second. "bal - erm" is the difference from plain
    training with the same seed. "encoder" names the common space: numbers of two encoders cannot be compared.
    """
    import pandas as pd

    recalls = {key: title for key, title in TITLES.items() if key not in ("test_acc", "test_macro_f1")}
    richness = {}
    for space, title in (("train_clean", "top-K CE tail"), ("encoder_views", "top-K FE tail, common")):
        for m in (20, 5):
            if f"{space}_rarefied_{m}_tail" in table and table[f"{space}_rarefied_{m}_tail"].notna().any():
                richness[f"{space}_rarefied_{m}_tail"] = f"{title} m={m}"
                break
    rows = []
    table = table[[*KEYS, "epochs", *(key for key in (*recalls, *richness, "encoder") if key in table)]]
    table = table.drop_duplicates(list(KEYS))
    shown = table["experiment"]
    for key in ("protocol", "data"):  # named where an experiment has several
        several = table.groupby("experiment")[key].transform("nunique") > 1
        shown = shown + np.where(several, " (" + table[key] + ")", "")
    table = table.assign(shown=shown)
    for (shown, method), runs in table.groupby(["shown", "method"], sort=False):
        row = {"experiment": shown, "epochs": span(runs["epochs"].tolist()), "method": method, "seeds": len(runs)}
        row |= {title: mean_sd([float(v) for v in runs[key]]) for key, title in recalls.items() if key in runs}
        plain = table[table["method"] == "erm"]
        pairs = runs.merge(plain, on=["shown", "seed"])
        row["bal - erm"] = mean_sd([float(v) for v in pairs["test_bal_acc_x"] - pairs["test_bal_acc_y"]])
        row |= {title: mean_sd([float(v) for v in runs[key]], scale=1.0) for key, title in richness.items()}
        if "encoder" in runs:  # one per protocol; new heads are not measured in its space
            row["encoder"] = next(iter(runs["encoder"].dropna()), "-")
        rows.append(row)
    return pd.DataFrame(rows)

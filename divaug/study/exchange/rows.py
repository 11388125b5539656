"""The rows of a study: one per run, in one CSV a data set, written as soon as the run has ended."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DataError
from divaug.base.files import exclusive, make_folder, write_text
from divaug.study.exchange.plan import Arm, Design, Plan

KEYS = ("prereg", "dataset", "design", "variant", "arm", "cut", "seed")
TEXT = (
    "prereg", "dataset", "design", "variant", "arm", "dose", "method", "augmentation", "steps_rule", "encoder",
    "protocol", "data", "selection", "kinds", "config", "precision", "device", "status", "reason",
)  # fmt: skip
COLUMNS = (
    "dataset", "design", "arm", "cut", "seed", "n", "breadth", "dose", "vendi_u", "vendi_outside", "coverage", "radius",
    "margin", "shift", "mass", "smd_max", "epochs", "steps", "train_recall", "balanced_accuracy", "prior_corrected",
    "tail_prior_corrected", "head_prior_corrected", "tau", "auc", "recall_kept", "recall_withheld",
    "topk_fe_heldout", "topk_ce_heldout", "method", "augmentation", "variant", "G", "steps_rule", "encoder", "protocol",
    "data", "selection", "kinds", "config", "precision", "device", "seconds", "status", "reason", "prereg",
)  # fmt: skip
OK, FAILED, REFUSED = "ok", "failed", "refused"
ATTEMPTS = 2  # a run that fails is repeated once, the next time that the study is run
_LATER = ("kinds", "config", "device")  # columns that the first rows do not have


def read_rows(path: Path) -> Any:
    """Read the rows of a study; an empty table if there is no file yet.

    Raises:
        DataError: The file is not a table of a study's rows.
    """
    import pandas as pd

    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        read: Any = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=_missing())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as rows of a study: {error}") from error
    if missing := [name for name in COLUMNS if name not in read and name not in _LATER]:
        raise DataError(f"{path} holds no rows of a study: columns {missing} are missing")
    table: Any = read.assign(**{name: "" for name in _LATER if name not in read})
    done: Any = table[table["status"] == OK]
    if (again := done.duplicated(list(KEYS))).any():
        one = done[again].iloc[0]
        raise DataError(
            f"{path} has two results of {one['dataset']} {one['design']} {one['variant']}, arm {one['arm']}, cut "
            f"{one['cut']}; keep the first"
        )
    return table


def _missing() -> dict[str, list[str]]:
    return {name: ["", "nan"] for name in COLUMNS if name not in TEXT}


def add_row(path: Path, row: dict[str, Any], correct: np.ndarray | None = None) -> None:
    """Append a row, atomically and whoever else is writing.

    Args:
        path: The CSV.
        row: Values by column.
        correct: Which images of the manipulated classes were recognised, boolean, in the order of the outcome's part;
            written to ``correct.csv`` beside it, first.
    """
    make_folder(path.parent)
    with exclusive(path.with_name(f".{path.name}.lock"), wait=True):
        table = read_rows(path)
        same = (table[list(KEYS)] == [row[name] for name in KEYS]).all(axis=1) & (table["status"] == OK)
        if same.any():
            what = f"arm {row['arm']}, cut {row['cut']}"
            raise DataError(f"{path} has a result of {what} already: another process ran it")
        if not _header_is_current(path):
            write_text(path, table.reindex(columns=list(COLUMNS)).to_csv(index=False, float_format="%.6g"))
        if correct is not None:
            own = {name: row[name] for name in KEYS} | {"images": len(correct), "correct": packed(correct)}
            _append(path.with_name("correct.csv"), own, [*KEYS, "images", "correct"])
        _append(path, row, list(COLUMNS))


def _header_is_current(path: Path) -> bool:
    """Return whether the file has today's columns, or does not exist yet."""
    if not path.exists():
        return True
    with path.open(encoding="utf-8") as file:
        return file.readline().strip() == ",".join(COLUMNS)


def _append(path: Path, row: dict[str, Any], columns: list[str]) -> None:
    """Add a line to a CSV without changing a byte of those before it."""
    import pandas as pd

    values = {name: row.get(name, "" if name in TEXT else float("nan")) for name in columns}
    line = pd.DataFrame([values]).to_csv(index=False, float_format="%.6g", header=not path.exists())
    write_text(path, (path.read_text(encoding="utf-8") if path.exists() else "") + line)


def packed(correct: np.ndarray) -> str:
    """Return booleans as text: eight to a byte, bytes in base 85."""
    return base64.b85encode(np.packbits(correct).tobytes()).decode()


def unpacked(text: str, images: int) -> np.ndarray:
    """Return the booleans of ``packed``, ``(images,)``."""
    return np.unpackbits(np.frombuffer(base64.b85decode(text), dtype=np.uint8))[:images].astype(bool)


def key_of(plan: Plan, design: Design, arm: str, cut: int) -> dict[str, Any]:
    """Return what identifies a run; its seed is the number of its cut."""
    return {
        "prereg": plan.prereg, "dataset": design.dataset, "design": design.name, "variant": design.variant, "arm": arm,
        "cut": cut, "seed": cut,
    }  # fmt: skip


def wanted(table: Any, plan: Plan, design: Design, arm: str, cut: int) -> bool:
    """Return whether a run is still to be done: it has no result, was not refused, and has not failed twice."""
    rows = of_plan(table, plan, design)
    rows = rows[(rows["arm"] == arm) & (rows["cut"] == cut)]
    done = rows["status"].isin([OK, REFUSED]).any()
    return not done and int((rows["status"] == FAILED).sum()) < ATTEMPTS


def described(plan: Plan, design: Design, name: str, arm: Arm, cut: int) -> dict[str, Any]:
    """Return the columns of a row that are known before anything is chosen."""
    return {
        **key_of(plan, design, name, cut),
        "n": round(design.n * arm.number),
        "breadth": round(design.kinds * arm.breadth),
        "G": design.kinds,
        "dose": arm.dose,
        "method": arm.method,
        "augmentation": ",".join(f"{key}={value}" for key, value in arm.options.items()) or "default",
        "steps_rule": design.steps_rule,
    }


def of_plan(table: Any, plan: Plan, design: Design) -> Any:
    """Return the rows of one design; those of another preregistration are left out."""
    own = {"prereg": plan.prereg, "dataset": design.dataset, "design": design.name, "variant": design.variant}
    for name, value in own.items():
        table = table[table[name] == value]
    return table

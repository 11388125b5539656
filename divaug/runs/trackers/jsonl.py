"""The metrics of a run, one JSON object per epoch: the source of everything else."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from divaug.base.errors import DivaugError
from divaug.base.files import to_json, write_text


class JsonlLog:
    """Append-only rows, each on disk before the next step of training.

    Args:
        path: The file, created by the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and wait until it is on disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(dict(row)), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, with undefined numbers as NaN; a last line cut short by a crash is dropped.

        Raises:
            DivaugError: A line in the middle is damaged, or a line holds no row.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines()
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                row = _from_json(json.loads(line))
            except ValueError as error:  # not UTF-8 or not JSON
                if number < len(lines):
                    raise DivaugError(f"{self.path}, line {number} is damaged: {error}") from error
                continue
            if not isinstance(row, dict) or [type(row.get(key)) for key in ("epoch", "metrics", "per_class")] != [
                int, dict, dict,
            ]:  # fmt: skip
                raise DivaugError(f"{self.path}, line {number} holds no epoch with its metrics")
            rows.append(row)
        return rows

    def keep_before(self, epoch: int) -> list[dict[str, Any]]:
        """Drop rows from ``epoch`` on, which a resumed run writes again, and repetitions; return the rest.

        Raises:
            DivaugError: They are not the rows of the epochs 0 to ``epoch`` - 1.
        """
        kept: dict[str, dict[str, Any]] = {}
        for row in self.rows():
            if row["epoch"] < epoch:
                kept[json.dumps(to_json(row))] = row
        rows, epochs = list(kept.values()), [row["epoch"] for row in kept.values()]
        if epochs != list(range(epoch)):
            missing = sorted(set(range(epoch)) - set(epochs))
            what = f"lacks epochs {_spans(missing)}" if missing else "has epochs twice, or in another order"
            raise DivaugError(
                f"{self.path} {what}, but the checkpoint has trained {epoch}; bring the file back, or delete the "
                "checkpoint to train again from the first epoch"
            )
        if self.path.exists():
            write_text(self.path, "".join(text + "\n" for text in kept))
        return rows


def _spans(epochs: list[int]) -> str:
    """Return epochs, counted from 1 as progress counts them, in few words."""
    return str(epochs[0] + 1) if len(epochs) == 1 else f"{epochs[0] + 1} to {epochs[-1] + 1}"


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return float("nan") if value is None else value

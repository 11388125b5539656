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
            DivaugError: A line in the middle is damaged.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(_from_json(json.loads(line)))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise DivaugError(f"{self.path}, line {number} is damaged: {error}") from error
        return rows

    def keep_before(self, epoch: int) -> list[dict[str, Any]]:
        """Drop rows from ``epoch`` on, which a resumed run writes again; return the rest."""
        rows = [row for row in self.rows() if row["epoch"] < epoch]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(to_json(row)) + "\n" for row in rows))
        return rows


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return float("nan") if value is None else value

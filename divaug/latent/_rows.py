"""The rows of a tidy table, as its measurements add them."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from divaug.latent.embeddings import Embeddings

COLUMNS = ("class", "class_name", "tercile", "n", "group", "K", "measure", "value", "low", "high", "null")


class Rows:
    """Collects rows of a tidy table."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self.rows: list[dict[str, Any]] = []

    def add(
        self, c: int | None, measure: str, value: float, *, n: int, group: str = "member", k: Any = None, **more: Any
    ) -> None:
        of_class = (
            {"class": -1, "class_name": "all", "tercile": "all"}
            if c is None
            else {"class": c, "class_name": self.embeddings.class_names[c], "tercile": self.embeddings.terciles[c]}
        )
        row = {**of_class, "n": n, "group": group, "K": "" if k is None else str(k), "measure": measure}
        self.rows.append({**row, "value": value, **more})

    def each_class(self, work: Callable[[int, "Rows"], None]) -> None:
        """Do the work of every class, several at once: numpy leaves the interpreter free meanwhile."""

        def one(c: int) -> list[dict[str, Any]]:
            own = Rows(self.embeddings)
            work(c, own)
            return own.rows

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for rows in pool.map(one, range(self.embeddings.num_classes)):
                self.rows += rows

    def frame(self, *columns: str) -> Any:
        import pandas as pd

        return pd.DataFrame(self.rows, columns=[*COLUMNS, *columns]).assign(split=self.embeddings.split)

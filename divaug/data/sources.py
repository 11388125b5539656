"""What a user names to be looked at, as image files: folders, tables and files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from divaug.base.errors import DataError
from divaug.data.datasets._rows import paths_of_table
from divaug.data.image_files import SUFFIXES


def is_table(source: Path) -> bool:
    """Return whether a source of images is a table (.csv, .tsv)."""
    return source.suffix.lower() in (".csv", ".tsv") and source.is_file()


def image_paths(
    sources: Iterable[str | Path], *, column: str = "path", left_out: Counter[str] | None = None
) -> Iterator[Path]:
    """Yield the image files of files, folders and CSVs, one by one: a million of them need no list.

    A folder gives all image files below it, hidden ones left out and links followed, in order of their names; a table
    (.csv, .tsv) one of its columns, relative to the table; any other file itself, readable or not.

    Args:
        sources: Files, folders and tables.
        column: The column of tables that names the images.
        left_out: Counts the files of folders that are no image files, by their suffix, and hidden ones as "hidden".

    Raises:
        DataError: A source does not exist, or a table has no such column.
    """
    left_out = Counter() if left_out is None else left_out
    for source in map(Path, sources):
        if source.is_dir():
            seen = set()
            for folder, below, names in os.walk(source, followlinks=True):
                if (real := os.path.realpath(folder)) in seen:  # a link to a folder above it
                    below.clear()
                    continue
                seen.add(real)
                below[:] = sorted(name for name in below if not name.startswith("."))
                for name in sorted(names):
                    if name.startswith("."):
                        left_out["hidden"] += 1
                    elif (suffix := Path(name).suffix.lower()) in SUFFIXES:
                        yield Path(folder, name)
                    else:
                        left_out[suffix or "without a suffix"] += 1
        elif is_table(source):
            yield from paths_of_table(source, column)
        elif source.exists() or source.suffix.lower() in SUFFIXES:  # a file that is missing is found unreadable
            yield source
        else:
            raise DataError(f"there is no {source}")

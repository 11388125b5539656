"""Writing files so that a crash leaves the old or the new one intact; and locks between processes."""

import fcntl
import hashlib
import json
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from divaug.base.errors import ConfigError, DivaugError

_HELD: set[IO[str]] = set()  # open lock files of this process


def _let_go() -> None:
    """Close a forked child's copies of the locks: it would hold them after its parent is dead."""
    for file in _HELD:
        file.close()
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinities become null."""
    write_text(path, json.dumps(to_json(value), indent=1, allow_nan=False) + "\n")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_tensors(path: Path, state: Any) -> None:
    """Write tensors and plain values for torch.load atomically; the content is on disk before the name."""
    import torch

    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_tensors(path: Path) -> Any:
    """Read what ``write_tensors`` wrote, refusing anything but tensors and plain values, and any flipped bit.

    Raises:
        ValueError: The file is damaged, or not such a file.
        OSError: It cannot be read.
    """
    import torch

    with path.open("rb"):  # raises OSError
        pass
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare the checksums that torch.save writes
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # RuntimeError, UnpicklingError, EOFError, KeyError, ... depending on the damage
        raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error


def to_json(value: Any) -> Any:
    """Return plain values with NaN and infinities as None, JSON's value for them."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def make_folder(path: Path) -> Path:
    """Make a folder and its parents.

    Raises:
        ConfigError: It cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make folder {path}: {error.strerror}; choose another with --output-dir") from error
    if not os.access(path, os.W_OK):
        raise ConfigError(f"folder {path} is not writable; choose another with --output-dir")
    return path


@contextmanager
def exclusive(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold an operating-system lock, which is released however the process ends; forked children do not hold it.

    Args:
        path: The lock file; its content is the holder's process number.
        wait: Wait for the holder instead of failing.

    Raises:
        DivaugError: Another process holds it and ``wait`` is false.
    """
    try:
        file = path.open("a+")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another --output-dir") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise DivaugError(f"{path.parent} is in use by process {file.read().strip() or 'unknown'}") from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        _HELD.add(file)
        try:
            yield
        finally:
            _HELD.discard(file)


def is_locked(path: Path) -> bool:
    """Return whether some process holds the lock."""
    try:
        with exclusive(path, wait=False):
            return False
    except DivaugError:
        return True

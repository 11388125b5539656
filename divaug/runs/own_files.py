"""The user's own files that a run depends on, by content: a path stays the same where its file changes."""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from divaug.base.files import file_digest
from divaug.config.schema import FAMILY_OF, Config
from divaug.config.user_files import code_of, here

_KEYS = ("imports_sha256", "files_sha256")  # of a manifest: code, and everything else
_OPTIONS = ("file", "checkpoint_path")  # of components: they name a file


def own_files(config: Config) -> dict[str, dict[str, str]]:
    """Return what a manifest records of the files of a run: name to SHA-256, of code and of everything else.

    Code is what ``--import`` names. Everything else is what a component reads by its option ``file`` (``--pixel.file``)
    or ``checkpoint_path`` (timm's), components within components too, and the images that ``--extra-train`` lists. A
    file that is not on this machine is left out.

    Raises:
        ConfigError: Code has changed since this process imported it.
        DataError: The list of extra images cannot be read.
    """
    code = {Path(item).name: code_of(item) for item in here(config.imports) if item.endswith(".py")}
    return dict(zip(_KEYS, (code, _files_read(config)), strict=True))


def _files_read(config: Config) -> dict[str, str]:
    """Return name and SHA-256 of all files of ``own_files`` but code.

    Raises:
        DataError: The list of extra images cannot be read.
    """
    files = {f"{option} {path.name}": _digest(path) for option, path in _read_by_components(config)}
    if config.extra_train is not None:
        from divaug.data.extra import files_of  # numpy and Pillow, which help and lists do without

        listed = hashlib.sha256("".join(map(_digest, files_of(config.extra_train))).encode())
        files[f"{Path(config.extra_train).name} (its images)"] = listed.hexdigest()
    return files


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, read once in this process as long as neither its size nor its time changes."""
    found = path.stat()
    return _digest_at(path, found.st_size, found.st_mtime_ns)


@cache
def _digest_at(path: Path, size: int, time: int) -> str:
    return file_digest(path)


def recorded(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that a manifest records, of both kinds; none where it is older than the record."""
    return {name: sha256 for key in _KEYS for name, sha256 in manifest.get(key, {}).items()}


def _read_by_components(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield every file with the option that names it."""
    for slot in (*FAMILY_OF, "model", "head", "optim"):
        phases = [
            (f"phase {number} {slot}", phase.components[slot])
            for number, phase in enumerate(config.phases, 1)
            if slot in phase.components
        ]
        for where, component in [(slot, getattr(config, slot)), *phases]:
            yield from _named_in(component.options, where)


def _named_in(value: Any, option: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, str) and option.rpartition(".")[2] in _OPTIONS and Path(value).is_file():
        yield option, Path(value)
    inner = value.items() if isinstance(value, Mapping) else enumerate(value, 1) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _named_in(one, f"{option}.{key}")

"""The user's own files that a run depends on, by content: a path stays the same where its file changes."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from divaug.base.files import file_digest
from divaug.config.schema import FAMILY_OF, Config
from divaug.config.user_files import code_of, here
from divaug.data.extra import files_of

_KEYS = ("imports_sha256", "files_sha256")  # of a manifest: code, and everything else


def own_files(config: Config) -> dict[str, dict[str, str]]:
    """Return what a manifest records of the files of a run: name to SHA-256, of code and of everything else.

    Code is what ``--import`` names. Everything else are files that a component reads (its option ``file``, as
    ``--pixel.file``), and the images that ``--extra-train`` lists. A file that is not on this machine is left out.

    Raises:
        ConfigError: Code has changed since this process imported it.
        DataError: The list of extra images cannot be read.
    """
    code = {Path(item).name: code_of(item) for item in here(config.imports) if item.endswith(".py")}
    files = {f"{slot}.file {path.name}": file_digest(path) for slot, path in _read_by_components(config)}
    if config.extra_train is not None:
        listed = hashlib.sha256("".join(map(file_digest, files_of(config.extra_train))).encode())
        files[f"{Path(config.extra_train).name} (its images)"] = listed.hexdigest()
    return dict(zip(_KEYS, (code, files), strict=True))


def recorded(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that a manifest records, of both kinds; none where it is older than the record."""
    return {name: sha256 for key in _KEYS for name, sha256 in manifest.get(key, {}).items()}


def _read_by_components(config: Config) -> Iterator[tuple[str, Path]]:
    for slot in FAMILY_OF:
        later = (phase.components[slot] for phase in config.phases if slot in phase.components)
        for component in (getattr(config, slot), *later):
            for key, value in component.options.items():
                of_step = value if isinstance(value, Mapping) else {key.rpartition(".")[2]: value}
                path = of_step.get("file")
                if isinstance(path, str) and Path(path).is_file():
                    yield slot, Path(path)

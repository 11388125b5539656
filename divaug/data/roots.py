"""Where data sets are looked for, checked and, if allowed, downloaded to."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from divaug.base.errors import DataError
from divaug.data.images import Request


def cache_folder() -> Path:
    """Return the user cache: ``$XDG_CACHE_HOME/divaug`` or ``~/.cache/divaug``; without a home a temporary folder."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "divaug"
    try:
        return Path.home() / ".cache" / "divaug"
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return Path(tempfile.gettempdir()) / f"divaug-{os.getuid()}"


def candidates(request: Request) -> list[Path]:
    """Return the roots in order of search; an explicit root is the only one."""
    if request.data_root is not None:
        return [Path(request.data_root)]
    variable = os.environ.get("DIVAUG_DATA")
    return [Path("data"), *([Path(variable)] if variable else []), cache_folder()]


def locate(name: str, folder: str, files: Sequence[str], request: Request, fetch: Callable[[Path], None]) -> Path:
    """Find a data set's folder below one of the roots, or download it into the user cache.

    Args:
        name: The data set, for messages.
        folder: Folder below a root.
        files: Its files, all of which must be there.
        request: The user's settings; with ``data_root`` there is no other place and no download.
        fetch: Downloads the data set into a root.

    Raises:
        DataError: Not found; the message lists the places tried and what to do.
    """
    roots = candidates(request)
    for root in roots:
        if all((root / folder / file).is_file() for file in files):
            return root / folder
    tried = ", ".join(str(root / folder) for root in roots)
    way_out = (
        f"Put {folder}/{files[0]} and the other files below one of them, or name another root with --data-root. "
        "This needs no download: python -m divaug.recipes.digits_lt"
    )
    if request.data_root is not None or not request.download:
        looked = f"looked for {files[0]} and {len(files) - 1} others, of which none may be missing, in: {tried}"
        raise DataError(f"{name} not found; {looked}. {way_out}")
    try:
        fetch(cache_folder())
    except Exception as error:  # torchvision's downloader raises URLError, HTTPError, RuntimeError, OSError
        raise DataError(f"{name} not found in: {tried}, and the download failed ({error}). {way_out}") from error
    return cache_folder() / folder


def read_checked(path: Path, md5: str) -> bytes:
    """Read a file whose MD5 is known.

    Raises:
        DataError: The file is missing or its content is not the official one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{path} is damaged: MD5 {found}, expected {md5}; delete it and fetch it again")
    return content

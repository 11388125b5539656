"""Import a user's own file (``--import my_augs.py``) under one stable module name, in every process.

A file ``my_augs.py`` becomes the module ``divaug._user_my_augs``. Because that name lies inside ``divaug``, a worker
process that unpickles one of its classes imports ``divaug`` first, which installs this finder; the finder looks the
path up in the environment variable ``DIVAUG_IMPORT``, which fork, spawn and forkserver workers inherit alike.

Files that only a run folder names are looked at, for their names and options, and never run, unless the user trusts
them: the folder may come from anywhere.
"""

import json
import os
import re
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from divaug.base.errors import ConfigError
from divaug.base.files import file_digest

VARIABLE = "DIVAUG_IMPORT"
_PREFIX = "divaug._user_"


class _UserFileFinder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.startswith(_PREFIX):
            for item in imports():
                if item.endswith(".py") and module_name(item) == fullname:
                    return spec_from_file_location(fullname, item)
        return None


def install() -> None:
    """Put the finder at the end of the search, once."""
    if not any(isinstance(f, _UserFileFinder) for f in sys.meta_path):
        sys.meta_path.append(_UserFileFinder())


_looked_at: list[str] = []  # named by run folders, not by the user; of this process alone
_imported: dict[str, str] = {}  # module to the digest of its file as this process imported it
_trusting = False


def imports() -> list[str]:
    """Return the files and modules that the user named so far, in order."""
    text = os.environ.get(VARIABLE, "")
    if text.startswith("["):  # written by ``add``, where a path has a colon
        return [str(item) for item in json.loads(text)]
    return [item for item in text.split(os.pathsep) if item]


def keep(items: list[str]) -> None:
    """Make these the files and modules that this process and its children import."""
    plain = os.pathsep.join(items)
    os.environ[VARIABLE] = json.dumps(items) if any(os.pathsep in item for item in items) else plain


def add(item: str) -> None:
    """Remember a file (made absolute) or a dotted module for this process and its children."""
    known = imports()
    item = str(Path(item).resolve()) if item.endswith(".py") else item
    if item not in known:
        keep([*known, item])


def here(items: tuple[str, ...]) -> tuple[str, ...]:
    """Return files and modules; for a file that is not on this machine, the copy that was sent to it."""
    sent = {module_name(item): item for item in imports()}
    return tuple(
        sent.get(module_name(item), item) if item.endswith(".py") and not os.path.exists(item) else item
        for item in items
    )


def look_at(item: str) -> None:
    """Remember a file that a run folder names, to be read and not run."""
    path = str(Path(item).resolve())
    if item.endswith(".py") and Path(path).is_file() and path not in (*imports(), *_looked_at):
        _looked_at.append(path)


def trust() -> None:
    """Let this process run what run folders name from now on (``--trust-imports``)."""
    global _trusting  # noqa: PLW0603 - a decision of the user for the whole process
    _trusting = True


def trusting() -> bool:
    """Return whether the user trusts what run folders name."""
    return _trusting


def looked_at() -> list[str]:
    """Return the files that are read and not run."""
    return [item for item in _looked_at if item not in imports()]


def code_of(item: str) -> str:
    """Return the SHA-256 of a file of components.

    Raises:
        ConfigError: This process imported it, and it has changed since: what runs is not what the file holds.
    """
    now = file_digest(Path(item))
    if _imported.get(module_name(item), now) != now:
        raise ConfigError(f"{item} has changed since this process imported it; start the process (the kernel) again")
    return now


def load(module: str) -> ModuleType:
    """Import the module of a component.

    Raises:
        ConfigError: Only a run folder names it, or a file of the user's cannot be imported.
    """
    refused = {module_name(item): item for item in looked_at()}
    if module in refused and module not in sys.modules:
        raise ConfigError(
            f"the run needs code from {refused[module]}, which its folder names: it is not run unless you name it "
            "yourself (--import or DIVAUG_IMPORT) or give --trust-imports (from Python: trust_imports=True)"
        )
    theirs = {module_name(item): item for item in imports()}
    if module in theirs and module not in sys.modules and theirs[module].endswith(".py"):
        _imported[module] = file_digest(Path(theirs[module]))
    try:
        return import_module(module)
    except (Exception, SystemExit) as error:
        if module not in theirs:
            raise
        what = "it calls sys.exit" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"--import {theirs[module]} cannot be imported: {what}") from error


def module_name(item: str) -> str:
    """Return the module name under which an imported file or module is known; a dot in a file's name is none in it."""
    return _PREFIX + re.sub(r"\W", "_", Path(item).stem) if item.endswith(".py") else item

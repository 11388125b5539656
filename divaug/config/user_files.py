"""Import a user's own file (``--import my_augs.py``) under one stable module name, in every process.

A file ``my_augs.py`` becomes the module ``divaug._user_my_augs``. Because that name lies inside ``divaug``, a worker
process that unpickles one of its classes imports ``divaug`` first, which installs this finder; the finder looks the
path up in the environment variable ``DIVAUG_IMPORT``, which fork, spawn and forkserver workers inherit alike.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

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


def imports() -> list[str]:
    """Return the files and modules named so far, in order."""
    return [item for item in os.environ.get(VARIABLE, "").split(os.pathsep) if item]


def add(item: str) -> None:
    """Remember a file (made absolute) or a dotted module for this process and its children."""
    known = imports()
    item = str(Path(item).resolve()) if item.endswith(".py") else item
    if item not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, item])


def module_name(item: str) -> str:
    """Return the module name under which an imported file or module is known."""
    return _PREFIX + Path(item).stem if item.endswith(".py") else item

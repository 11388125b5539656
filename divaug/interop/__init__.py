"""divaug's parts in other people's code: a hook on any network, a cut of any data set, torch's own interfaces."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Sampler": "divaug.interop.sampler",
    "Transform": "divaug.interop.transform",
    "Watch": "divaug.interop.hook",
    "watch": "divaug.interop.hook",
    "LongTail": "divaug.interop.subset",
    "long_tail": "divaug.interop.subset",
    "mix_batch": "divaug.interop.batch",
    "soft_cross_entropy": "divaug.interop.batch",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'divaug.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

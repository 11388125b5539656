"""Models: a backbone and a head with the seam public."""

from functools import partial
from importlib import import_module
from typing import Any

_PUBLIC = {
    "Network": "divaug.models.network",
    "build_network": "divaug.models.network",
    "LinearHead": "divaug.models.heads",
    "CosineHead": "divaug.models.heads",
    "load_weights": "divaug.models.weights",
}
_NETWORKS = ("resnet20", "resnet32", "resnet44", "resnet56")
__all__ = sorted((*_PUBLIC, *_NETWORKS))


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name in _NETWORKS:  # resnet32(num_classes=10, channels=3, head="linear") is a whole Network
        from divaug.models.network import build_network

        return partial(build_network, name)
    raise AttributeError(f"module 'divaug.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

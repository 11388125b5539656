"""divaug: train long-tailed image classifiers with augmentation and measure latent diversity.

Importing it reads no data, opens no connection and touches no random generator; public names load on first use.
"""

from importlib import import_module
from typing import Any

from divaug import _torchvision_cpu
from divaug.config import user_files

__version__ = "0.2.0.dev0"

_PUBLIC = {
    "Config": "divaug.config.schema",
    "Component": "divaug.config.schema",
    "MixedLabels": "divaug.base.labels",
    "mixed_loss": "divaug.base.labels",
    "stream": "divaug.base.rng",
    "load": "divaug.runs.model",
    "open_run": "divaug.runs.model",
}
__all__ = ["__version__", *sorted(_PUBLIC)]

_torchvision_cpu.install()
user_files.install()


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'divaug' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

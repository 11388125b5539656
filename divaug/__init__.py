"""divaug: train long-tailed image classifiers with augmentation and measure latent diversity.

Importing it reads no data, opens no connection and touches no random generator; public names load on first use.
"""

from importlib import import_module
from typing import Any

from divaug import _torchvision_cpu
from divaug.config import user_files

__version__ = "0.2.0.dev0"

_REGISTRIES = (
    "CLASS_WEIGHTS", "DATASETS", "FEATURE", "HEADS", "LOSSES", "MIX", "MODELS", "OPTIM", "PARTNERS", "PIXEL",
    "POSTHOC", "SAMPLERS",
)  # fmt: skip
_PUBLIC = {
    "run": "divaug.runs.loop",
    "configure": "divaug.config.layers",
    "load": "divaug.runs.load",
    "open_run": "divaug.runs.folder",
    "read_runs": "divaug.report.frames",
    "show": "divaug.report.inline",
    "watch": "divaug.interop.hook",
    "long_tail": "divaug.interop.subset",
    "Config": "divaug.config.schema",
    "Component": "divaug.config.schema",
    "MixedLabels": "divaug.base.labels",
    "mixed_loss": "divaug.base.labels",
    "stream": "divaug.base.rng",
    **dict.fromkeys(_REGISTRIES, "divaug.config.registry"),
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

"""Measurements of latent features: FE, CE, top-K sets, their statistics, and the monitor."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "TopKMonitor": "divaug.latent.monitor",
    "TopKCounts": "divaug.latent.counts",
    "classification_embeddings": "divaug.latent.topk",
    "top_k_incidence": "divaug.latent.topk",
    "adaptive_top_k": "divaug.latent.topk",
    "rarefied_number": "divaug.latent.rarefaction",
    "effective_number": "divaug.latent.statistics",
    "class_top_k": "divaug.latent.statistics",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'divaug.latent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

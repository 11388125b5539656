"""Models: a backbone, a head, and between them the embeddings, which are public.

A backbone maps images ``(B, ch, H, W)`` to embeddings ``(B, feature_dim)``; a head maps embeddings to logits, and its
``factors`` take each logit apart into the contributions of the features. A ``Network`` is one of each.

Example:
    >>> import torch
    >>> from divaug.models import resnet20
    >>> model = resnet20(num_classes=3).eval()
    >>> z = model.features(torch.zeros(2, 3, 32, 32))
    >>> z.shape, model.head(z).shape
    (torch.Size([2, 64]), torch.Size([2, 3]))
"""

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

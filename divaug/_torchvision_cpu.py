"""Let the registry's torchvision wheel, a CUDA build, be imported beside a CPU-only torch.

The only Linux x86-64 wheel of torchvision on the package index is compiled for CUDA. Beside a CPU torch its compiled
operators cannot load, and ``import torchvision`` then fails with "operator torchvision::nms does not exist", because it
registers fake implementations for operators that were never declared. Declaring their schemas first is enough: image
transforms, data sets and models work, and timm with them. The compiled operators themselves (``torchvision.ops.nms``)
stay unusable, with torchvision's own message.

A finder waits for the first ``import torchvision``, does its work and removes itself; on a healthy pair of torch and
torchvision it does nothing.
"""

import re
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_libraries: list[Any] = []  # torch forgets the schemas when the Library object dies


class _TorchvisionFinder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            _declare_missing_operators(Path(spec.origin).parent)
        return spec


def _declare_missing_operators(package: Path) -> None:
    import torch

    if torch.version.cuda or getattr(torch.version, "hip", None):
        return
    try:
        is_cuda_build = "+cu" in (package / "version.py").read_text(encoding="utf-8")
        source = (package / "_meta_registrations.py").read_text(encoding="utf-8")
    except OSError:  # another layout: leave it to torchvision
        return
    if is_cuda_build:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in re.findall(r'register_fake\("torchvision::(\w+)"\)', source):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)


def install() -> None:
    """Put the finder in front, once, unless torchvision is already imported."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _TorchvisionFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from divaug.config.registry import PIXEL
from divaug.pixel._seeded import Seeded, Seeds


@PIXEL.register("albumentations")
class Albumentations(Seeded):
    """Apply any pipeline of albumentations that was saved with ``albumentations.save``.

    Args:
        file: Its JSON or YAML file; "" flips half of the images horizontally. The pipeline must return uint8 images
            of one size; divaug does the normalisation.

    Reference:
        Buslaev et al., Albumentations: Fast and Flexible Image Augmentations, Information 11(2), 2020,
        arXiv:1809.06839.

    Differs from the paper: every row is seeded anew, because version 2.0.8 repeats its draws in every worker process
    and every epoch.
    """

    def __init__(self, *, file: str = "") -> None:
        if file and not Path(file).is_file():
            raise ValueError(f"file {file!r} does not exist; albumentations.save(pipeline, file) writes one")
        self.file = str(Path(file).resolve()) if file else ""
        self.pipeline = self._load()

    def _load(self) -> Any:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else every import asks the package index
        import albumentations

        if not self.file:
            return albumentations.Compose([albumentations.HorizontalFlip(p=0.5)])
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # 2.0.8 only warns about unknown arguments
            try:
                kind: Any = "yaml" if self.file.endswith((".yaml", ".yml")) else "json"
                loaded: Any = albumentations.load(self.file, data_format=kind)
            except Exception as error:  # the type depends on the damage
                raise ValueError(f"file {self.file} is not a pipeline of albumentations: {error}") from error
        return loaded if isinstance(loaded, albumentations.Compose) else albumentations.Compose([loaded])

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file}  # sent to workers with every step; each builds the pipeline once

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.file = state["file"]
        if self.file not in _PIPELINES:
            _PIPELINES[self.file] = self._load()
        self.pipeline = _PIPELINES[self.file]

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: Seeds, i: int) -> UInt8[np.ndarray, "H2 W2 ch"]:
        """Run the pipeline on row ``i``'s image with its seed."""
        self.pipeline.set_random_seed(int(plan[i]))
        result = self.pipeline(image=np.ascontiguousarray(image))["image"]
        if not isinstance(result, np.ndarray) or result.dtype != np.uint8:
            kind = getattr(result, "dtype", type(result).__name__)
            raise ValueError(
                f"the pipeline {self.file} must return uint8 arrays, got {kind}: leave out Normalize, ToTensor"
            )
        return result if result.ndim == 3 else result[:, :, None]


_PIPELINES: dict[str, Any] = {}

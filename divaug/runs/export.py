"""A model for other runtimes: ONNX, with normalisation and softmax inside, so that none of them can be forgotten."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from divaug.base.errors import ConfigError, DivaugError
from divaug.base.files import write_json
from divaug.runs.model import Model


class _Whole(nn.Module):
    """From uint8 images to logits and probabilities."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self.temperature = model.decision.temperature
        self.mean = torch.tensor(model.transform.mean).view(1, -1, 1, 1)
        self.deviation = torch.tensor(model.transform.std).view(1, -1, 1, 1)

    def forward(self, images: UInt8[Tensor, "N H W ch"]) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
        """Return logits and probabilities."""
        pixels = images.permute(0, 3, 1, 2).float() / 255
        logits = self.network((pixels - self.mean) / self.deviation)
        return logits, (logits / self.temperature).softmax(1)


def export_onnx(model: Model, path: Path) -> Path:
    """Write a model as ONNX, with a JSON file beside it that says what goes in and what comes out.

    The input ``images`` is uint8 ``(N, H, W, ch)``, resized as ``resize`` in the JSON file says; outputs are ``logits``
    and ``probabilities``, ``(N, C)``. N is free. Thresholds are not part of it: they are in the JSON file.

    Args:
        model: The model.
        path: Output file, ``*.onnx``.

    Returns:
        The JSON file.

    Raises:
        ConfigError: The packages onnx and onnxscript are not installed.
        DivaugError: The network cannot be exported.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch asks for it, deep inside
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'divaug[export]'") from error
    whole = _Whole(model).eval()
    example = torch.from_numpy(np.zeros((2, *model.transform.shape), dtype=np.uint8))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about names inside torch
            torch.onnx.export(
                whole, (example,), str(temporary), input_names=["images"], output_names=["logits", "probabilities"],
                dynamic_shapes={"images": {0: torch.export.Dim("N")}}, dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
        onnx.checker.check_model(str(temporary))
    except Exception as error:
        temporary.unlink(missing_ok=True)
        raise DivaugError(f"the network cannot be exported: {type(error).__name__}: {error}") from error
    temporary.replace(path)
    beside = path.with_name(f"{path.name}.json")  # model.json is a model folder's own
    write_json(beside, described(model))
    return beside


def described(model: Model) -> dict[str, Any]:
    """Return what a program needs to know to use an exported model."""
    height, width, channels = model.transform.shape
    return {
        "input": {"name": "images", "type": "uint8", "shape": ["N", height, width, channels],
                  "channels": "RGB" if channels == 3 else "grey", "bits": model.transform.bits},
        "resize": {"to": [width, height], "how": model.transform.resize, "filter": "bilinear"},
        "outputs": ["logits", "probabilities"], "classes": list(model.classes), "decision": model.decision.table(),
    }  # fmt: skip

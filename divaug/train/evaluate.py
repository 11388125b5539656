"""A network in evaluation mode: outputs over a part, and the classes that it tells now."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """Outputs over a part, in its order, as numpy arrays: logits, embeddings and labels."""

    logits: np.ndarray
    embeddings: np.ndarray
    labels: np.ndarray


@torch.no_grad()
def evaluate(
    model: Any, batches: Iterator[tuple[Tensor, Tensor]], *, device: torch.device, bf16: bool = False
) -> Evaluation:
    """Run a model in evaluation mode over pictures in order and put its mode back."""
    was_training = model.training
    model.eval()
    logits, embeddings, labels = [], [], []
    for images, ids in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            z = model.features(images)
        logits.append(model.head(z.float()).cpu())
        embeddings.append(z.float().cpu())
        labels.append(ids)
    model.train(was_training)
    return Evaluation(*(torch.cat(parts).numpy() for parts in (logits, embeddings, labels)))


def predictor(
    model: Any, normalize: Callable[[Tensor], Tensor], *, bf16: bool = False, batch_size: int = 500
) -> Callable[[Tensor], Tensor]:
    """Return a function from uint8 pictures ``(M, H, W, ch)`` to the classes that a model gives them as it is now."""

    @torch.no_grad()
    def predict(pictures: Tensor) -> Tensor:
        was_training = model.training
        model.eval()
        found = []
        for images in map(normalize, pictures.split(batch_size)):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
                z = model.features(images)
            found.append(model.head(z.float()).argmax(1))
        model.train(was_training)
        return torch.cat(found)

    return predict

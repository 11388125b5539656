"""A network in evaluation mode: outputs over a part, and the classes that it predicts now."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from divaug.models.network import Network


@dataclass(frozen=True)
class Evaluation:
    """Outputs over a part, in order, as numpy arrays: logits, embeddings and labels."""

    logits: Float[np.ndarray, "N C"]
    embeddings: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, "N"]


def evaluate(model: Network, batches: Iterable[tuple[Tensor, Tensor]], *, bf16: bool = False) -> Evaluation:
    """Run a network in evaluation mode over images in order, then restore its mode.

    Args:
        model: The network.
        batches: Normalised images on the network's device, and their labels.
        bf16: Run the backbone under bfloat16 autocast, as in training.
    """
    logits, embeddings, labels = [], [], []
    with torch.no_grad(), evaluating(model):
        for images, ids in batches:
            z = _features(model, images, bf16=bf16)
            logits.append(model.head(z).cpu())
            embeddings.append(z.cpu())
            labels.append(ids)
    return Evaluation(*(torch.cat(parts).numpy() for parts in (logits, embeddings, labels)))


def predictor(
    model: Network,
    normalize: Callable[[UInt8[Tensor, "M H W ch"]], Float[Tensor, "M ch H W"]],
    *,
    bf16: bool = False,
    batch_size: int = 500,
) -> Callable[[UInt8[Tensor, "M H W ch"]], Int[Tensor, "M"]]:
    """Return a function from images to the classes that a network predicts in its current state."""

    def predict(images: UInt8[Tensor, "M H W ch"]) -> Int[Tensor, "M"]:
        with torch.no_grad(), evaluating(model):
            parts = (_features(model, normalize(part), bf16=bf16) for part in images.split(batch_size))
            return torch.cat([model.head(z).argmax(1) for z in parts])

    return predict


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, and restore its mode whatever happens."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _features(model: Network, images: Float[Tensor, "M ch H W"], *, bf16: bool) -> Float[Tensor, "M D"]:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        z = model.features(images)
    return z.float()

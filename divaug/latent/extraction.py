"""From a model and pictures to a bundle of embeddings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divaug.base.errors import ConfigError
from divaug.latent.embeddings import Embeddings


def extract(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    layer: str | None = None,
    class_names: Sequence[str] = (),
    split: str = "train",
    class_counts: Sequence[int] = (),
    device: str | torch.device = "cpu",
    origin: Mapping[str, Any] | None = None,
) -> Embeddings:
    """Run a classifier in evaluation mode over pictures and keep what enters and what leaves its last layer.

    Works for divaug's networks, any timm model with a linear classifier, and any module whose last layer is named.
    The model's mode is put back; nothing else of it is touched.

    Args:
        model: The classifier.
        loader: Batches ``(images, labels)`` in order, normalised, not augmented: rarefaction is over pictures.
        layer: Dotted name of the last linear layer (``fc``, ``classifier.3``); by default the head of a divaug
            network, the classifier of a timm model, or the only ``nn.Linear`` there is.
        class_names: Names; ``class 0`` and so on by default.
        split: What the pictures are.
        class_counts: Training pictures by which classes are head, mid and tail.
        device: Where the model and its pictures are.
        origin: Plain values for the manifest.

    Returns:
        The bundle, its logits verified against scale * sum of CE + bias.

    Raises:
        ConfigError: There is no such layer, or no linear head can be found.
        DataError: The logits are not what the layer makes of the features.
    """
    head = _head(model, layer)
    entered: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    was_training = model.training
    features, logits, labels = [], [], []
    try:
        model.eval()
        with torch.no_grad():
            for images, ids in loader:
                entered.clear()
                out = model(images.to(device))
                if len(entered) != 1 or entered[0].dim() != 2:
                    raise ConfigError(
                        f"the layer was called {len(entered)} times a picture batch"
                        + (f" with inputs {tuple(entered[0].shape)}" if entered else "")
                        + ": it is not a classifier on top of embeddings (B, D); name another with layer="
                    )
                features.append(entered[0].float().cpu().numpy())
                logits.append(out.float().cpu().numpy())
                labels.append(np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids, dtype=np.int64))
    finally:
        handle.remove()
        model.train(was_training)
    weight = head.weight.detach().float().cpu().numpy()
    bias = None if head.bias is None else head.bias.detach().float().cpu().numpy()
    names = tuple(class_names) or tuple(f"class {c}" for c in range(len(weight)))
    return Embeddings(
        features=np.concatenate(features), labels=np.concatenate(labels), class_names=names, weight=weight, bias=bias,
        logits=np.concatenate(logits), scale=float(getattr(head, "scale", 1.0)), cosine=not isinstance(head, nn.Linear),
        split=split, class_counts=tuple(int(n) for n in class_counts),
        origin={"model": type(model).__name__, **(origin or {})},
    ).verify()  # fmt: skip


def _head(model: Any, layer: str | None) -> Any:
    if layer is not None:
        try:
            head: Any = model.get_submodule(layer)
        except AttributeError as error:
            linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
            raise ConfigError(f"the model has no layer {layer!r}; its linear layers: {linear}") from error
    elif hasattr(model, "head") and hasattr(model, "features") and hasattr(model.head, "factors"):
        return model.head
    elif callable(getattr(model, "get_classifier", None)):
        head = model.get_classifier()
    else:
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if len(linear) != 1:
            raise ConfigError(
                f"the model has {len(linear)} linear layers"
                + ("; name the last one with layer=" if linear else ": without a linear head there are no CE")
            )
        head = linear[0]
    if not (isinstance(head, nn.Linear) or hasattr(head, "factors")):
        raise ConfigError(
            f"the last layer is a {type(head).__name__}, not linear: its logits do not come apart into contributions "
            "of features; name a linear one with layer="
        )
    return head

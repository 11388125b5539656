"""From a model and images to a bundle of embeddings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divaug.base.errors import ConfigError
from divaug.latent.embeddings import Embeddings
from divaug.models.heads import CosineHead
from divaug.models.network import Network


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
    """Run a classifier over images in evaluation mode, and keep the inputs and outputs of its last layer.

    Works for divaug's networks, any timm model with a linear classifier, and any module whose last layer is named.
    The model's mode is restored afterwards; nothing else about it is touched.

    Args:
        model: The classifier.
        loader: Batches ``(images, labels)`` in order, normalised and not augmented: rarefaction is over images.
        layer: Dotted name of the last linear layer (``fc``, ``classifier.3``); by default the head of a divaug
            network, the classifier of a timm model, or the only ``nn.Linear`` there is.
        class_names: One name per class; ``class 0`` and so on by default.
        split: What the images are: "train", "test".
        class_counts: Training images per class, which decide the classes that are head, mid and tail.
        device: Where the model is; images are moved there.
        origin: Plain values for the manifest.

    Returns:
        The bundle, with its logits verified against scale * sum of CE + bias.

    Raises:
        ConfigError: There is no such layer, or no linear head can be found.
        DataError: The logits are not what the layer computes from the features.

    Example:
        >>> import torch
        >>> from divaug.latent import extract
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> batches = [(torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 1]))]
        >>> bundle = extract(model, batches, class_names=("cat", "dog"))
        >>> bundle.features.shape, bundle.counts.tolist()
        ((3, 4), [1, 2])
    """
    head = find_head(model, layer)
    entered: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    modes = {module: module.training for module in model.modules()}  # frozen layers may have one of their own
    features, logits, labels = [], [], []
    try:
        model.eval()
        with torch.no_grad():
            for images, ids in loader:
                entered.clear()
                out = model(images.to(device))
                if len(entered) != 1 or entered[0].dim() != 2:
                    raise ConfigError(
                        f"the layer was called {len(entered)} times an image batch"
                        + (f" with inputs {tuple(entered[0].shape)}" if entered else "")
                        + ": it is not a classifier on top of embeddings (B, D); name another with layer="
                    )
                features.append(entered[0].float().cpu().numpy())
                logits.append(out.float().cpu().numpy())
                labels.append(np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids, dtype=np.int64))
    finally:
        handle.remove()
        for module, training in modes.items():
            module.training = training
    weight = head.weight.detach().float().cpu().numpy()
    bias = None if head.bias is None else head.bias.detach().float().cpu().numpy()
    cosine = isinstance(head, CosineHead)
    scale = head.scale if isinstance(head, CosineHead) else 1.0
    names = tuple(class_names) or tuple(f"class {c}" for c in range(len(weight)))
    return Embeddings(
        features=np.concatenate(features), labels=np.concatenate(labels), class_names=names, weight=weight, bias=bias,
        logits=np.concatenate(logits), scale=scale, cosine=cosine,
        split=split, class_counts=tuple(int(n) for n in class_counts),
        origin={"model": type(model).__name__, **(origin or {})},
    ).verify()  # fmt: skip


def find_head(model: nn.Module, layer: str | None = None) -> Any:  # a module that is a Head too
    """Return a classifier's last linear layer: the one named, a divaug network's head, timm's, or the only one.

    Raises:
        ConfigError: There is no such layer, more than one could be meant, or it is not linear.
    """
    if layer is not None:
        try:
            head: Any = model.get_submodule(layer)
        except AttributeError as error:
            linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
            raise ConfigError(f"the model has no layer {layer!r}; its linear layers: {linear}") from error
    elif isinstance(model, Network):
        return model.head
    elif "get_classifier" in dir(model):  # timm's models
        foreign: Any = model
        head = foreign.get_classifier()
    else:
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if len(linear) != 1:
            raise ConfigError(
                f"the model has {len(linear)} linear layers"
                + ("; name the last one with layer=" if linear else ": without a linear head there are no CE")
            )
        head = linear[0]
    if not isinstance(head, nn.Linear | CosineHead):
        raise ConfigError(
            f"the last layer is a {type(head).__name__}, not linear: its logits do not come apart into contributions "
            "of features; name a linear one with layer="
        )
    return head

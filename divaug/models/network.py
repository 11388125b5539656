"""The network: a backbone and a head, built from their names."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from divaug.base.contracts import Backbone, Head, complete
from divaug.base.errors import ConfigError
from divaug.base.rng import stream, torch_seed
from divaug.config.registry import HEADS, MODELS


class Network(nn.Module):
    """A backbone and a head.

    Attributes:
        backbone: Images ``(B, ch, H, W)`` to embeddings FE ``(B, D)``; has ``feature_dim``.
        head: Embeddings to final logits; ``weight (C, D)``, ``bias (C,)`` or None, ``scale``: logits are
            ``scale`` times the sum of the classification embedding, plus the bias.
        frozen: Modules that stay in evaluation mode.
        takes_features: It is given features of a frozen backbone, extracted before, as images of one pixel ``(B, D, 1,
            1)``.
    """

    backbone: Backbone
    head: Head

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = complete(cast(Backbone, backbone))
        self.head = cast(Head, head)
        self.frozen, self.takes_features = list[nn.Module](), False

    def train(self, mode: bool = True) -> "Network":
        """Set training mode, and evaluation mode for what is frozen: its normalisation keeps its statistics."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def features(self, images: Float[Tensor, "B ch H W"]) -> Float[Tensor, "B D"]:
        """Return the embeddings (FE)."""
        return images.flatten(1) if self.takes_features else self.backbone(images)

    def forward(self, images: Float[Tensor, "B ch H W"]) -> Float[Tensor, "B C"]:
        """Return the logits."""
        return self.head(self.features(images))


def build_network(
    name: str,
    num_classes: int = 10,
    *,
    channels: int = 3,
    size: tuple[int, int] = (32, 32),
    head: str = "linear",
    head_options: dict[str, Any] | None = None,
    seed: int | None = None,
    **options: Any,
) -> Network:
    """Build a network by registered name or ``timm:NAME``; backbone and head have separate streams of initial weights.

    Args:
        name: Registered model, or ``timm:`` and the name of any timm model.
        num_classes: C.
        channels: Channels of the images.
        size: (H, W) of the images.
        head: Registered head.
        head_options: The head's hyperparameters.
        seed: Seed of the initial weights, which leaves torch's global generator unchanged; None draws from that one.
        **options: The model's hyperparameters (timm: passed to ``timm.create_model``).

    Raises:
        ConfigError: Unknown name or option, or images too small for the network.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes must be >= 2, got {num_classes}")
    with _seeded(seed, "backbone"):
        if name.startswith("timm:"):
            from divaug.models.timm_backbone import timm_backbone

            backbone = timm_backbone(name.removeprefix("timm:"), channels, size, options)
        else:
            backbone = MODELS.build(name, facts={"channels": channels, "size": size}, **options)
    with _seeded(seed, "head"):
        facts = {"feature_dim": backbone.feature_dim, "num_classes": num_classes}
        top = HEADS.build(head, facts=facts, **(head_options or {}))
    return Network(backbone, top)


@contextmanager
def _seeded(seed: int | None, name: str) -> Iterator[None]:
    """Run a block with torch seeded from a stream, and restore the global generator afterwards."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(stream(seed, name)))  # not those of the cards
        yield

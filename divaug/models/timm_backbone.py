"""Any timm model as a backbone; the only module that imports timm."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from divaug.base.errors import ConfigError

SMALL_STEM = "small_stem"  # our option, not timm's


class TimmBackbone(nn.Module):
    """A timm model without its classifier.

    Args:
        model: A model created with ``num_classes=0``.
        feature_dim: D.
    """

    def __init__(self, model: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.model = model
        self.feature_dim = feature_dim

    def forward(self, images: Float[Tensor, "B ch H W"]) -> Float[Tensor, "B D"]:
        """Return the embeddings."""
        return self.model(images)

    def initialize(self, batches: Iterable[Tensor]) -> None:
        """Do nothing: timm's models start from their own weights."""


def timm_backbone(name: str, channels: int, size: tuple[int, int], options: dict[str, Any]) -> TimmBackbone:
    """Create a timm model as a backbone.

    Args:
        name: A name that timm knows.
        channels: Channels of the images.
        size: (H, W) of the images; passed on to models that need it (vision transformers).
        options: Keyword arguments of ``timm.create_model``; ``small_stem = true`` replaces a ResNet's stem with a 3x3
            convolution without pooling, for images of 32x32; ``checkpoint_path`` names a local file of weights.

    Raises:
        ConfigError: Unknown name or argument, or weights that are not available.
    """
    import timm
    import torch

    options = dict(options)
    small_stem = options.pop(SMALL_STEM, False)
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=5) or [
            "resnet18",
            "convnext_tiny",
            "vit_tiny_patch16_224",
        ]
        raise ConfigError(f"timm has no model {name!r}; did you mean one of {near}? timm.list_models() lists all")
    fixed_size = name.split(".", maxsplit=1)[0].startswith(("vit_", "deit", "swin", "beit", "mixer"))
    if fixed_size:
        options.setdefault("img_size", size)
    try:
        model = timm.create_model(name, num_classes=0, in_chans=channels, **options)
    except (TypeError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"timm:{name} cannot be built with {options}: {error}") from error
    if small_stem:
        if not (hasattr(model, "conv1") and hasattr(model, "maxpool") and isinstance(model.conv1, nn.Conv2d)):
            raise ConfigError(f"timm:{name} has no ResNet stem; small_stem is for timm's ResNets")
        model.conv1 = nn.Conv2d(channels, model.conv1.out_channels, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    with torch.no_grad():  # num_features is not every timm model's width before its classifier
        was_training = model.training
        width = model.eval()(torch.zeros(1, channels, *size)).shape[1]
        model.train(was_training)
    return TimmBackbone(model, width)


def input_of(name: str) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Return a timm model's own image size, channel means and deviations, without loading weights."""
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}; timm.list_models() lists all")
    config = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    return config.input_size[1], tuple(config.mean), tuple(config.std)

"""Any timm model as a backbone; the only module that imports timm."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import torch
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
        ConfigError: Unknown name or argument, weights that are not available, or a size that the model cannot
            take or does not see the whole of.
    """
    import timm

    options = dict(options)
    small_stem = options.pop(SMALL_STEM, False)
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=5) or [
            "resnet18",
            "convnext_tiny",
            "vit_tiny_patch16_224",
        ]
        raise ConfigError(f"timm has no model {name!r}; did you mean one of {near}? timm.list_models() lists all")
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options.setdefault("img_size", size)
    try:
        with _hub_if_it_answers(download=bool(options.get("pretrained"))):
            model = timm.create_model(name, num_classes=0, in_chans=channels, **options)
    except (TypeError, RuntimeError, ValueError, OSError, AssertionError) as error:
        if "img_size" in options and isinstance(error, AssertionError | RuntimeError):
            raise _wrong_size(name, size, error) from error
        way = "; --model.checkpoint_path FILE takes weights from a file" if options.get("pretrained") else ""
        raise ConfigError(f"timm:{name} cannot be built with {options}: {error}{way}") from error
    if small_stem:
        if not (hasattr(model, "conv1") and hasattr(model, "maxpool") and isinstance(model.conv1, nn.Conv2d)):
            raise ConfigError(f"timm:{name} has no ResNet stem; small_stem is for timm's ResNets")
        model.conv1 = nn.Conv2d(channels, model.conv1.out_channels, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    try:
        width, seen = _width_and_sight(model, channels, size)
    except (TypeError, RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise _wrong_size(name, size, error) from error
    if seen != tuple(size):
        step = _patch(model)
        fit = sorted({max(step, size[0] // step * step), (size[0] // step + 1) * step})
        raise ConfigError(
            f"timm:{name} sees {seen[0]}x{seen[1]} of {size[0]}x{size[1]} pixels and nothing beyond them: its patches "
            f"have {step} pixels; give --image-size {' or '.join(map(str, fit))}"
        )
    return TimmBackbone(model, width)


@contextmanager
def _hub_if_it_answers(*, download: bool) -> Iterator[None]:
    """Let pretrained weights come from the cache alone where the hub does not answer: it would be asked for minutes."""
    if not download:
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = before or not _answers(constants.ENDPOINT)
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    """Return whether a server accepts connections within three seconds."""
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=3):
            return True
    except OSError:
        return False


def _width_and_sight(model: nn.Module, channels: int, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Return the width of the embeddings, and how many rows and columns of pixels have any effect on them.

    num_features is not every timm model's width before its classifier.
    """
    was_training, drawn = model.training, torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, *size, generator=drawn).requires_grad_()
    # Branches that begin as zero (the last norm of a residual block) will not stay so.
    awake = {n: torch.ones_like(p) if not p.any() and n.endswith("weight") else p for n, p in model.named_parameters()}
    z = torch.func.functional_call(model.eval(), awake, (images,))
    (z * torch.randn(z.shape, generator=drawn)).sum().backward()  # a plain sum of normalised features is constant
    model.train(was_training).zero_grad(set_to_none=True)
    assert images.grad is not None
    effect = images.grad.abs().amax((0, 1)) > 0
    return z.shape[1], (int(effect.any(1).sum()), int(effect.any(0).sum()))


def _patch(model: nn.Module) -> int:
    """Return the side of the patches that a network cuts its images into: its first convolution's stride."""
    stems = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return max(2, next((max(int(n) for n in stem.stride) for stem in stems), 2))


def _wrong_size(name: str, size: tuple[int, int], error: Exception) -> ConfigError:
    reason = str(error).splitlines()[0] if str(error) else "it checks its size without a message"
    own = input_of(name)[0]
    return ConfigError(
        f"timm:{name} cannot take images of {size[0]}x{size[1]}: {reason}; it was made for {own}x{own}: give "
        f"--image-size {own}, or another model"
    )


def input_of(name: str) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Return a timm model's own image size, channel means and deviations, without loading weights."""
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}; timm.list_models() lists all")
    config = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    return config.input_size[1], tuple(config.mean), tuple(config.std)

"""Training the last part of a network only: which modules are frozen, and features extracted once for a head alone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from divaug.base.contracts import Batch, Mix, Pixel, WholeMix, WholePixel, complete
from divaug.base.errors import ConfigError
from divaug.config.schema import Config
from divaug.data.loaders import EVALUATED, Loader
from divaug.models.network import Network


def freeze(network: Network, train: str, images: Tensor) -> None:
    """Freeze all of a network's backbone but its last blocks; frozen normalisation layers keep their statistics.

    Blocks are the backbone's children in the order in which they work, the children of a sequence of several counting
    each: a ResNet's residual blocks, a transformer's layers. Norms without a matrix after the last blocks are trained
    and not counted.

    Args:
        network: The network, changed in place.
        train: "full", "head" (no block) or "last:N" (the last N blocks).
        images: A normalised batch ``(B, ch, H, W)``, to see the order of the blocks.

    Raises:
        ConfigError: The backbone has fewer blocks.

    Example:
        >>> import torch
        >>> from divaug.models import resnet20
        >>> from divaug.train.frozen import freeze
        >>> network = resnet20(num_classes=3)
        >>> freeze(network, "head", torch.rand(2, 3, 32, 32))
        >>> [name for name, p in network.named_parameters() if p.requires_grad]
        ['head.weight', 'head.bias']
    """
    if train == "full":
        return
    wanted = 0 if train == "head" else int(train.removeprefix("last:"))
    backbone = cast(nn.Module, network.backbone)
    blocks = _in_order(backbone, _blocks(backbone), images)
    counted = [any(p.ndim > 1 for p in block.parameters()) for block in blocks]
    if wanted > sum(counted):
        raise ConfigError(f"train {train}: the backbone has {sum(counted)} blocks; give --train full")
    first = len(blocks)
    while wanted:
        first -= 1
        wanted -= counted[first]
    trained = {id(p) for block in blocks[first:] for p in block.parameters()}
    for parameter in backbone.parameters():
        if id(parameter) not in trained:
            parameter.requires_grad_(False)
    network.frozen = [backbone] if first == len(blocks) else blocks[:first]


def _in_order(backbone: nn.Module, blocks: list[nn.Module], images: Tensor) -> list[nn.Module]:
    """Return blocks in the order in which they are first called, which need not be that of their definition."""
    called: list[nn.Module] = []
    hooks = [block.register_forward_pre_hook(lambda block, _: called.append(block)) for block in blocks]
    was_training = backbone.training
    with torch.no_grad():
        backbone.eval()(images)
    backbone.train(was_training)
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys([*called, *blocks]))


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """Return the modules with parameters that a backbone is a chain of."""
    children = [child for child in backbone.children() if next(child.parameters(), None) is not None]
    if len(children) == 1 and not isinstance(children[0], nn.Linear | nn.Conv2d):  # a wrapper, as of timm's models
        return _blocks(children[0])
    found = []
    for child in children:
        own = list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else []
        found += _blocks(child) if len(own) > 1 else [child]
    return found


def with_features(built: Any, config: Config) -> Any:
    """Return what a run trains with; for a head alone the loaders hand out features, extracted here once.

    Args:
        built: What ``build`` returned.
        config: The configuration.
    """
    if config.train != "head" or built.space is not None:  # a common encoder needs the images
        return built
    network = built.model.eval()
    loaders = {
        name: None if loader is None else FeatureLoader(loader, _features(network, loader, bf16=built.bf16))
        for name, loader in (("train", built.train), ("val", built.val), ("test", built.test))
    }
    network.takes_features = True
    return replace(built, **loaders)


@torch.no_grad()
def _features(network: Network, loader: Loader, *, bf16: bool) -> Tensor:
    with torch.autocast(loader.device.type, torch.bfloat16, enabled=bf16):
        return torch.cat([network.features(images).float() for images, _ in loader.in_order()])


class FeatureLoader(Loader):
    """A loader that hands out features of its images, as images of one pixel and D channels ``(B, D, 1, 1)``.

    Rows and draws are those of the loader of images.

    Args:
        loader: The loader of the images, which ``take``, ``normalize`` and ``evenly`` still return.
        features: Features of all its images in order, ``(N, D)``.
    """

    def __init__(self, loader: Loader, features: Tensor) -> None:
        self.__dict__.update(loader.__dict__)
        self._features = features[:, :, None, None]

    def epoch(
        self, indices: np.ndarray, *, pixel: Pixel, mix: Mix, seed: int, epoch: int, first_step: int = 0
    ) -> Iterator[Batch]:
        """Yield the batches of one epoch; ``pixel`` and ``mix`` change nothing, which ``check_frozen`` has seen to."""
        whole = cast(WholePixel, complete(pixel)), cast(WholeMix, complete(mix))
        for request in self._requests(indices, *whole, seed, epoch, first_step):
            rows = torch.from_numpy(request.indices)
            unchanged = torch.zeros(len(rows), dtype=torch.bool, device=self.device)
            yield Batch(self._of(rows), self.labels_of(request.indices), request.indices, unchanged, None)

    def in_order(self, batch_size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features of all images in order, with their labels."""
        batch_size = batch_size or EVALUATED
        for start in range(0, len(self.labels), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(self.labels)))
            yield self._of(rows), self.labels[rows]

    def _of(self, rows: Tensor) -> Tensor:
        return self._features[rows.to(self._features.device)]

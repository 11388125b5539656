"""Follow each class's top-K embeddings in any torch network, by a forward hook."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divaug.base.labels import MixedLabels
from divaug.latent.extraction import find_head
from divaug.latent.monitor import TopKMonitor

SPACES = ("ce", "fe")


class Watch:
    """The monitor that ``watch`` returns; a context manager.

    Args:
        model: Any network with a linear last layer.
        layer: Its dotted name (``fc``, ``classifier.3``); None finds it as ``divaug.latent.extract`` does.
        num_classes: C; None takes the layer's outputs.
        k: K of the top-K sets, 1 to D; or several.
        sizes: Sample sizes m of the rarefied numbers.

    Example:
        >>> import torch
        >>> from divaug.interop import watch
        >>> model = torch.nn.Linear(4, 3)
        >>> with watch(model, k=2) as monitor:
        ...     logits = model(torch.rand(6, 4))
        ...     monitor.step(torch.tensor([0, 0, 0, 1, 1, 2]))
        >>> monitor.compute()["fe"]["n"].tolist()
        [3.0, 2.0, 1.0]
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str | None,
        num_classes: int | None,
        k: int | Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        self.head = find_head(model, layer)
        classes, dimensions = self.head.weight.shape
        if num_classes not in (None, classes):
            raise ValueError(f"the layer has {classes} outputs, num_classes is {num_classes}; name another with layer=")
        self.num_classes = classes
        self.monitors = {space: TopKMonitor(classes, dimensions, k=k, sizes=sizes) for space in SPACES}
        self._entered: Tensor | None = None
        self._handle: Any = None

    def __enter__(self) -> "Watch":
        self._handle = self.head.register_forward_pre_hook(self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()
        self._entered = None

    def _remember(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._entered = inputs[0].detach()

    def step(self, labels: Tensor | MixedLabels) -> None:
        """Count the batch that the network saw last.

        Args:
            labels: Of its rows: hard ones int64 ``(B,)``, soft ones ``(B, C)`` whose rows sum to 1 (what mixup gives in
                timm and torchvision), or ``MixedLabels``. A row counts to its largest label; rows with several labels
                are counted apart, under names that end in ``_mixed``.

        Raises:
            ValueError: The network has seen no batch since the last step, or another number of rows than there are
                labels (gathered over devices, say).
        """
        if self._entered is None:
            raise ValueError("no forward pass since the last step(): call it once per batch, after model(images)")
        z, self._entered = self._entered, None
        target = _as_mixed(labels, self.num_classes, z.device)
        if z.dim() != 2 or len(z) != len(target.ids):
            raise ValueError(f"embeddings {tuple(z.shape)} came to the layer, but there are {len(target.ids)} labels")
        self.monitors["ce"].update(z, target, self.head)
        self.monitors["fe"].update(z, target, None)

    def compute(self) -> dict[str, dict[str, np.ndarray]]:
        """Return ``{"ce": statistics, "fe": statistics}``: one value per class, see ``TopKMonitor.compute``."""
        return {space: monitor.compute() for space, monitor in self.monitors.items()}

    def reset(self) -> None:
        """Forget everything counted."""
        for monitor in self.monitors.values():
            monitor.reset()

    def merge(self, other: "Watch") -> None:
        """Add what another one counted over other rows, exactly."""
        for space, monitor in self.monitors.items():
            monitor.merge(other.monitors[space])

    def gather(self) -> None:
        """Add what all ranks of ``torch.distributed`` counted: afterwards all have the same counts.

        Call it once, on every rank, before ``compute``; without a process group it does nothing.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        ours = {space: monitor.state_dict() for space, monitor in self.monitors.items()}
        states: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, ours)
        self.reset()
        for state in states:
            for space, monitor in self.monitors.items():
                part = TopKMonitor(monitor.num_classes, self.head.weight.shape[1], k=monitor.ks, sizes=monitor.sizes)
                part.load_state_dict(state[space])
                monitor.merge(part)


def watch(
    model: nn.Module,
    layer: str | None = None,
    *,
    num_classes: int | None = None,
    k: int | Sequence[int] = 10,
    sizes: Sequence[int] = (5, 20),
) -> Watch:
    """Follow top-K classification embeddings (CE) and features (FE) of every class while a network trains.

    Memory is independent of the number of images, training is the same with it and without, counts merge over ranks.

    Args:
        model: Any network whose last layer is linear.
        layer: Dotted name of that layer; None takes timm's classifier, or the only ``nn.Linear`` there is.
        num_classes: C, checked against the layer.
        k: K of the top-K sets, 1 to D; or several.
        sizes: Sample sizes m of the rarefied numbers.

    Raises:
        ConfigError: There is no such layer, or it is not linear.
        ValueError: The layer has another number of outputs.

    Example:
        >>> import torch, divaug
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> with divaug.watch(model, layer="3", num_classes=3, k=4) as monitor:
        ...     for _ in range(5):
        ...         images, labels = torch.randn(8, 3, 2, 2), torch.randint(3, (8,))
        ...         logits = model(images)
        ...         monitor.step(labels)
        >>> sorted(monitor.compute())
        ['ce', 'fe']
    """
    return Watch(model, layer, num_classes, k, sizes)


def _as_mixed(labels: Tensor | MixedLabels, num_classes: int, device: torch.device) -> MixedLabels:
    if isinstance(labels, MixedLabels):
        return labels
    labels = labels.to(device, non_blocking=True)
    if labels.dim() == 1 and not labels.is_floating_point():
        return MixedLabels.hard(labels.long())
    if labels.dim() != 2 or labels.shape[1] != num_classes:
        raise ValueError(f"labels must be (B,) integers or (B, {num_classes}) weights, got {tuple(labels.shape)}")
    return MixedLabels(torch.arange(num_classes, device=device).expand(len(labels), -1), labels.float())

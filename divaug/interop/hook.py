"""Follow each class's top-K embeddings in any torch network, by a forward hook."""

import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from divaug.base.errors import ConfigError
from divaug.base.labels import MixedLabels
from divaug.latent.extraction import find_head
from divaug.latent.monitor import TopKMonitor

SPACES = ("ce", "fe")


class _Met(NamedTuple):
    """The factors of a batch's classification embeddings when the layer met it; stands in for the head."""

    features: Tensor
    weight: Tensor

    def factors(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.features, self.weight


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
        self.model, self.head = model, find_head(model, layer)
        classes, dimensions = self.head.weight.shape
        if num_classes not in (None, classes):
            raise ValueError(f"the layer has {classes} outputs, num_classes is {num_classes}; name another with layer=")
        self.num_classes = classes
        self.monitors = {space: TopKMonitor(classes, dimensions, k=k, sizes=sizes) for space in SPACES}
        self._entered: Tensor | None = None
        self._met: Any = None
        self._left: Tensor | None = None  # the layer's output, until it has been compared with the network's
        self._verified = self._warned = self._counted = self._learning = False
        self._handles: list[Any] = []

    def __enter__(self) -> "Watch":
        if self._handles:
            raise RuntimeError("this watch is entered already; make another for another loop")
        self._handles = [self.head.register_forward_hook(self._remember)]
        if self.model is not self.head:
            self._handles.append(self.model.register_forward_hook(self._verify))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._entered, self._met, self._left = [], None, None, None

    def _remember(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        learning = layer.training and torch.is_grad_enabled()
        if self._entered is not None and self._learning and learning and not self._warned:
            self._warned = True  # once: a loop that does this does it in every step
            warnings.warn(
                "watch: a forward pass in training came before step() had counted the last one, which is lost; call "
                "step(labels) after each",
                stacklevel=2,
            )
        z, head = inputs[0].detach(), self.head
        self._entered, self._learning = z, learning
        # A copy: step() may come after the optimiser's, and an embedding belongs to the weights that it met.
        features, weight = (z, head.weight) if isinstance(head, nn.Linear) else head.factors(z)
        self._met = _Met(features.detach(), weight.detach().clone())
        if not self._verified:
            self._left = output.detach()

    def _verify(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Compare the layer's output with the network's, once: another order of the classes means another last layer.

        What may follow a last layer keeps the order: a temperature, a softmax. Outputs that are no table of logits
        (a dictionary, one of several devices' parts) are not compared.
        """
        left, self._left = self._left, None
        if left is None or not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(left):
            return
        self._verified = True
        same = output.shape == left.shape
        if same:
            ordered = output.detach().float().gather(1, left.argsort(1))
            same = bool((ordered.diff(dim=1) >= -1e-3 * ordered.abs().amax()).all())
        if not same:
            raise ConfigError(
                f"the network's output {tuple(output.shape)} is not that of the watched layer {tuple(left.shape)}: "
                "name the last layer with layer=; if it is not linear, watch does not support the network"
            )

    def step(self, labels: Tensor | MixedLabels | Sequence[int]) -> None:
        """Count the batch that the network saw last.

        Args:
            labels: Of its rows: hard ones int64 ``(B,)``, soft ones ``(B, C)`` whose rows sum to 1 (what mixup gives in
                timm and torchvision), or ``MixedLabels``. A row counts to its largest label; rows with several labels
                are counted apart, under names that end in ``_mixed``. Label smoothing, which gives every class the
                same, makes no row mixed (C > 2).

        Raises:
            ValueError: The network has seen no batch since the last step, or another number of rows than there are
                labels (gathered over devices, say). Labels out of range, or soft ones whose rows do not sum to 1:
                always noticed on the CPU, on a GPU in the first step only, because looking makes it wait.
        """
        if self._entered is None:
            raise ValueError(
                "no forward pass since the last step(): call it once per batch, after model(images), inside the with. "
                "If you do, the layer is not called as a module (compiled before watch, jit, replaced since)"
            )
        z, self._entered = self._entered, None
        target = _as_mixed(labels, self.num_classes, z.device)
        if z.dim() != 2 or len(z) != len(target.ids):
            raise ValueError(f"embeddings {tuple(z.shape)} came to the layer, but there are {len(target.ids)} labels")
        if z.device.type == "cpu" or not self._counted:
            _check_labels(target, self.num_classes)
        self._counted = True
        self.monitors["ce"].update(z, target, self._met)
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


def _check_labels(target: MixedLabels, num_classes: int) -> None:
    if len(target.ids) and not 0 <= int(target.ids.min()) <= int(target.ids.max()) < num_classes:
        raise ValueError(
            f"labels must lie in 0 to {num_classes - 1}, got {int(target.ids.min())} to {int(target.ids.max())}"
        )
    if bool((target.weights < 0).any()) or bool(((target.weights.sum(1) - 1).abs() > 1e-2).any()):
        raise ValueError("soft labels must be >= 0 and sum to 1 in each row: multi-hot labels and logits do not")


def _as_mixed(labels: Tensor | MixedLabels | Sequence[int], num_classes: int, device: torch.device) -> MixedLabels:
    if isinstance(labels, MixedLabels):
        mixed = None if labels.mixed is None else labels.mixed.to(device)
        return MixedLabels(labels.ids.to(device), labels.weights.to(device), mixed)
    labels = torch.as_tensor(labels).to(device, non_blocking=True)
    if labels.dim() == 1 and not labels.is_floating_point():
        return MixedLabels.hard(labels.long())
    if labels.dim() != 2 or labels.shape[1] != num_classes:
        raise ValueError(f"labels must be (B,) integers or (B, {num_classes}) weights, got {tuple(labels.shape)}")
    weights = labels.float()
    if num_classes > 2:  # label smoothing gives every class the same; what is above it says what the row is made of
        mixed = (weights > weights.amin(1, keepdim=True)).sum(1) > 1
        return MixedLabels(torch.arange(num_classes, device=device).expand(len(labels), -1), weights, mixed)
    return MixedLabels(torch.arange(num_classes, device=device).expand(len(labels), -1), weights)

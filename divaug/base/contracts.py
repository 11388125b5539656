"""The contract of every family: one protocol each, the batch that they share, and ``complete``.

A component must have what its family requires. What is optional (a batched ``apply``, ``donors``, an ``update`` with
its state) is filled in once, by ``complete``: all code after the registry sees whole objects.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from divaug.base.errors import ConfigError
from divaug.base.labels import MixedLabels

Component = TypeVar("Component")
Plan = Any  # whatever a component's ``sample`` draws and its ``apply`` understands


@dataclass(frozen=True)
class Donors:
    """Images from the whole training cut for a mix that asks for them.

    Attributes:
        images: Normalised, on the device.
        labels: Their classes, on the host.
        indices: Their positions in the training cut, on the host.
        own: Which rows got another view of their own image, on the host.
    """

    images: Float[Tensor, "B ch H W"]
    labels: Int[Tensor, "B"]
    indices: Int[np.ndarray, "B"]
    own: Bool[np.ndarray, "B"]


@dataclass(frozen=True)
class Batch:
    """The rows of one step.

    Attributes:
        images: Normalised, on the device.
        labels: Their classes, on the host.
        indices: Their positions in the training cut, on the host.
        changed: Which images the pixel component actually altered, on the device.
        donors: Images that a mix asked for, or None.
    """

    images: Float[Tensor, "B ch H W"]
    labels: Int[Tensor, "B"]
    indices: Int[np.ndarray, "B"]
    changed: Bool[Tensor, "B"]
    donors: Donors | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.images.shape[2], self.images.shape[3]


@runtime_checkable  # tests check signatures
class Sampler(Protocol):
    """Which training images an epoch visits."""

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return a whole epoch of positions in the training cut; ``progress`` in [0, 1) of training."""
        ...

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        ...


@runtime_checkable
class Pixel(Protocol):
    """One image in, one image out."""

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> Plan:
        """Draw, on the host, once per step."""
        ...

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: Plan, i: int) -> UInt8[np.ndarray, "H2 W2 ch"]:
        """Apply to one image what was drawn for row ``i``."""
        ...


@runtime_checkable
class Learning(Protocol):
    """A component that learns between epochs (strengths by class), with the state that a resumed run needs.

    Attributes:
        learns: Whether ``update`` does anything.
        levels: What has been learned, one number per class; recorded every epoch.
    """

    learns: bool
    levels: np.ndarray

    def update(
        self,
        images: Callable[[np.ndarray], UInt8[Tensor, "M H W ch"]],
        predict: Callable[[UInt8[Tensor, "M H W ch"]], Int[Tensor, "M"]],
        rng: np.random.Generator,
    ) -> None:
        """Learn from training images at positions of the cut and the network's predictions for images."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return what a checkpoint keeps."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        ...


@runtime_checkable
class WholePixel(Pixel, Learning, Protocol):
    """A pixel component after ``complete``.

    Attributes:
        batched: Whether ``apply`` is the component's own; else it works image by image.
    """

    batched: bool

    @property
    def prob(self) -> float | None:
        """Declared share of rows that it alters, or None."""
        ...

    def apply(self, images: UInt8[Tensor, "B H W ch"], plan: Plan) -> UInt8[Tensor, "B H2 W2 ch"]:
        """Apply to a batch what ``apply_one`` does to each of its images."""
        ...


@runtime_checkable
class Mix(Protocol):
    """A batch of images in, a batch of images and mixed labels out."""

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> Plan:
        """Draw, on the host, once per step."""
        ...

    def apply(
        self, images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: Plan, donors: Donors | None = None
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Mix, on the device; a pure function of the plan that does not modify its inputs."""
        ...


@runtime_checkable
class WholeMix(Mix, Protocol):
    """A mix after ``complete``."""

    @property
    def prob(self) -> float | None:
        """Declared share of steps, or of rows if ``per_row``, that it mixes, or None."""
        ...

    @property
    def per_row(self) -> bool:
        """Whether draws are made for each row separately."""
        ...

    def donors(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"] | None:
        """Return which images of the whole training cut are mixed in; None if partners come from the batch."""
        ...

    def made_of(self, plan: Plan, rows: int) -> Int[np.ndarray, "B"]:
        """Return which row of the batch each output row comes from before mixing: itself, unless rows are redrawn."""
        ...


@runtime_checkable
class Partner(Protocol):
    """Which images of the whole training cut are mixed into a batch."""

    def draw(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"]:
        """Return the position in the training cut of a partner for each row, given the rows' labels."""
        ...


@runtime_checkable
class Feature(Protocol):
    """Embeddings and labels in, embeddings and labels out; an ``nn.Module`` whose statistics are buffers."""

    def __call__(
        self, z: Float[Tensor, "B D"], target: MixedLabels, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B2 D"], MixedLabels]:
        """Augment; the batch's own rows come first, in order."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return what a checkpoint keeps."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Restore the state from a checkpoint."""
        ...


@runtime_checkable
class Loss(Protocol):
    """Logits and hard labels in, one loss per row out, float32, never reduced."""

    def __call__(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        ...


@runtime_checkable
class ClassWeights(Protocol):
    """Weights of classes in the loss, from their counts."""

    def __call__(self, class_counts: Int[Tensor, "C"]) -> Float[Tensor, "C"] | None:
        """Return one weight >= 0 per class; None weighs all alike."""
        ...


@runtime_checkable
class Backbone(Protocol):
    """Images to embeddings (FE)."""

    feature_dim: int

    def __call__(self, images: Float[Tensor, "B ch H W"]) -> Float[Tensor, "B D"]:
        """Return the embeddings."""
        ...

    def initialize(self, batches: Iterable[Float[Tensor, "M ch H W"]]) -> None:
        """Set what depends on training images (whitening) before training; most do nothing."""
        ...


@runtime_checkable
class Factors(Protocol):
    """Says what classification embeddings are made of."""

    def factors(self, z: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "C D"]]:
        """Return (FE, weights) whose elementwise product is the classification embedding."""
        ...


@runtime_checkable
class Head(Factors, Protocol):
    """Embeddings to final logits: ``scale`` times the sum of the classification embedding, plus the bias."""

    weight: Tensor
    bias: Tensor | None
    scale: float

    def __call__(self, z: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Return the logits."""
        ...


@runtime_checkable
class Monitor(Protocol):
    """Measures embeddings over a stream of batches; memory does not depend on their number."""

    def update(self, z: Float[Tensor, "B D"], target: MixedLabels, head: Factors | nn.Linear | None) -> None:
        """Count a batch; ``head`` is None if there are no class weights."""
        ...

    def compute(self) -> dict[str, np.ndarray]:
        """Return one value per class for each statistic."""
        ...

    def reset(self) -> None:
        """Forget everything counted."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore counts from a checkpoint."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """A mirror of a run elsewhere; a context manager. Its failures never stop training."""

    uri: str
    status: str

    @property
    def alive(self) -> bool:
        """Whether everything so far has reached the store."""
        ...

    def __enter__(self) -> "Tracker": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch."""
        ...

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Log results once."""
        ...

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder."""
        ...


_LEARNING = ("levels", "state_dict", "load_state_dict")


def complete(component: Component) -> Component:
    """Add the optional members of a component's family that it lacks; return the same object.

    A pixel component (it has ``apply_one``) gets a batched ``apply`` that works image by image, and ``batched`` shows
    whether its ``apply`` is its own; one without ``update`` learns nothing and has no state. A mix gets ``donors`` that
    asks for none and ``made_of``; a backbone gets an ``initialize`` that does nothing. ``prob`` is None if it is not
    declared. Anything else is returned unchanged.

    Raises:
        ConfigError: It has ``update`` but lacks what a resumed run needs, or it refuses new attributes (``__slots__``).
    """
    kind, missing = type(component), {}

    def lacks(name: str) -> bool:
        return not hasattr(component, name)

    if not lacks("sample") and lacks("prob"):
        missing["prob"] = None
    if not lacks("apply_one"):
        if lacks("batched"):
            missing["batched"] = not lacks("apply")
        if lacks("apply"):
            missing["apply"] = partial(_image_by_image, cast(Pixel, component))
        if lacks("learns"):
            missing["learns"] = not lacks("update")
        if lacks("update"):
            nothing: dict[str, Any] = {
                "update": _ignore, "state_dict": dict, "load_state_dict": _ignore, "levels": np.empty(0),
            }  # fmt: skip
            missing |= {name: value for name, value in nothing.items() if lacks(name)}
        elif absent := [name for name in _LEARNING if lacks(name)]:
            raise ConfigError(f"{kind.__name__} has update, so it needs {', '.join(absent)} too")
    elif not lacks("sample") and not lacks("apply"):
        if lacks("donors"):
            missing["donors"] = _ignore
        if lacks("made_of"):
            missing["made_of"] = _own_rows
        if lacks("per_row"):
            missing["per_row"] = False
    elif not lacks("feature_dim") and lacks("initialize"):
        missing["initialize"] = _ignore
    for name, value in missing.items():
        try:
            object.__setattr__(component, name, value)  # frozen dataclasses too
        except AttributeError as error:
            said = f"{kind.__name__} must take new attributes, with which divaug completes it (no __slots__): {error}"
            raise ConfigError(said) from error
    return component


def built(component: Any, option: str) -> Any:
    """Return a component that another one holds, completed.

    Raises:
        ValueError: It is a name: the registry builds names, but a constructor called by hand does not.
    """
    if isinstance(component, str | Mapping):
        raise ValueError(f"{option} must be a built component here, as CropFlip(), got {component!r}")
    return complete(component)


# Module-level functions, so that completed components can be pickled for worker processes.


def _image_by_image(pixel: Pixel, images: UInt8[Tensor, "B H W ch"], plan: Plan) -> Tensor:
    one_by_one = [pixel.apply_one(image, plan, i) for i, image in enumerate(images.cpu().numpy())]
    if len(shapes := {image.shape for image in one_by_one}) > 1:
        raise ValueError(f"{type(pixel).__name__} gave images of different shapes: {sorted(shapes)[:3]}")
    return torch.from_numpy(np.stack(one_by_one)).to(images.device, non_blocking=True)


def _ignore(*anything: Any) -> None:
    pass


def _own_rows(plan: Any, rows: int) -> Int[np.ndarray, "B"]:
    return np.arange(rows)

"""What a component takes and gives where one is an option of another: the types that such options are declared with."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor


@runtime_checkable  # type checkers of signatures ask
class Pixel(Protocol):
    """A component of the family ``pixel``; a batched ``apply(images, plan)`` is optional.

    One that learns between epochs has ``update(pictures, predict, rng)``, see ``cuda``; and then ``levels``, a number a
    class that is noted each epoch, and ``state_dict`` and ``load_state_dict``, so that a run can be resumed.
    """

    def sample(self, labels: Tensor, size: tuple[int, int], rng: np.random.Generator) -> Any:
        """Draw, on the host, once a step."""
        ...

    def apply_one(self, image: np.ndarray, plan: Any, i: int) -> np.ndarray:
        """Do to one picture, uint8 ``(H, W, ch)``, what was drawn for row ``i``."""
        ...


@runtime_checkable
class Partner(Protocol):
    """A component of the family ``partners``: which pictures of the whole training cut are mixed into a batch."""

    def draw(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"]:
        """Return the position in the training cut of a partner for each row, given the rows' labels."""
        ...


def augment(pixel: Any, images: UInt8[Tensor, "B H W ch"], plan: Any) -> Tensor:
    """Apply a pixel component to a batch: by its batched form where it has one, else picture by picture."""
    if hasattr(pixel, "apply"):
        return pixel.apply(images, plan)
    one_by_one = [pixel.apply_one(image, plan, i) for i, image in enumerate(images.cpu().numpy())]
    if len(shapes := {picture.shape for picture in one_by_one}) > 1:
        raise ValueError(f"{type(pixel).__name__} gave pictures of different shapes: {sorted(shapes)[:3]}")
    return torch.from_numpy(np.stack(one_by_one)).to(images.device)

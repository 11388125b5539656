from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from divaug.base.contracts import Pixel, built
from divaug.config.registry import PIXEL
from divaug.pixel._operations import LEVELS, augment_by_level


@dataclass(frozen=True)
class CudaPlan:
    """The weak augmentation's plan, each row's level (0: weak only) and the seed of its operations."""

    weak: Any
    levels: Int[np.ndarray, "B"]
    seeds: Int[np.ndarray, "B"]


@PIXEL.register("cuda", tune={"prob": (0.2, 0.8), "threshold": (0.4, 0.8)})
class Cuda:
    """Augment each class as strongly as the network currently tolerates.

    Each class has a level, at first 0. Before every epoch the network is tested on training images of the class at
    every level up to its own. If it gets enough of them right at all levels, the class goes up by one level, else down
    by one. A share of the images is then augmented with ``level`` operations of magnitude level / 30.

    Args:
        labels: Class of every image of the training cut.
        num_classes: C.
        weak: Component applied to every image first.
        prob: Share of images that are augmented by level, in [0, 1].
        samples: samples * (s + 1) images of a class are tested at level s; >= 1.
        threshold: More than this share of them must be classified correctly, in [0, 1]; at 1 no level ever rises.
        max_level: Largest level, in 0 to 30.

    Reference:
        Ahn, Ko and Yun, CUDA: Curriculum of Data Augmentation for Long-tailed Recognition, ICLR 2023, arXiv:2302.05499.

    Differs from the paper: the test stops at the first level that fails, since its outcome is then known. Images are
    tested without the weak augmentation, which the authors' code applies first. Magnitudes are those of RandAugment,
    where level 1 changes next to nothing; in the authors' code low levels of some operations are drastic (one bit of
    posterize, a sixth of the colour), so that classes rise through other tests.
    """

    def __init__(
        self,
        labels: Int[Tensor, "N"],
        num_classes: int,
        *,
        weak: Pixel = "default",  # pyright: ignore[reportArgumentType] - the registry builds it
        prob: float = 0.5,
        samples: int = 10,
        threshold: float = 0.6,
        max_level: int = 10,
    ) -> None:
        for name, value in (("prob", prob), ("threshold", threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if samples < 1:
            raise ValueError(f"samples must be >= 1, got {samples}")
        if not 0 <= max_level <= LEVELS:
            raise ValueError(f"max_level must lie in 0 to {LEVELS}, got {max_level}")
        self.weak, self.prob, self.samples = built(weak, "weak"), prob, samples
        self.threshold, self.max_level = threshold, max_level
        self.members = [np.flatnonzero(labels.numpy() == c) for c in range(num_classes)]
        self.levels: np.ndarray = np.zeros(num_classes, dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "members": []}  # workers only apply; the lists would be sent with every step

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> CudaPlan:
        """Draw the weak augmentation, then which rows are augmented by level, and their seeds."""
        weak = self.weak.sample(labels, size, rng)
        chosen = rng.random(len(labels)) < self.prob
        return CudaPlan(weak, np.where(chosen, self.levels[labels.numpy()], 0), rng.integers(2**32, size=len(labels)))

    def apply_one(self, image: UInt8[np.ndarray, "H W ch"], plan: CudaPlan, i: int) -> UInt8[np.ndarray, "H W ch"]:
        """Augment row ``i``'s image weakly, then by its level."""
        return augment_by_level(self.weak.apply_one(image, plan.weak, i), int(plan.levels[i]), int(plan.seeds[i]))

    def update(
        self,
        images: Callable[[np.ndarray], UInt8[Tensor, "M H W ch"]],
        predict: Callable[[UInt8[Tensor, "M H W ch"]], Int[Tensor, "M"]],
        rng: np.random.Generator,
    ) -> None:
        """Test every class and move its level by one.

        Args:
            images: Returns training images at positions of the cut.
            predict: Returns the network's classes for images, in evaluation mode.
            rng: Generator of the test's draws.
        """
        if not self.members:
            raise ValueError(
                "update the component in the process that built it: a copy sent to a worker can only apply"
            )
        streams = rng.spawn(len(self.members))  # one per class: the result of one does not change another's draws
        moved = np.zeros_like(self.levels)
        for c, members in enumerate(self.members):
            if len(members):
                bears = all(
                    self._is_right(c, level, images, predict, streams[c]) for level in range(self.levels[c] + 1)
                )
                moved[c] = np.clip(self.levels[c] + (1 if bears else -1), 0, self.max_level)
        self.levels = moved

    def _is_right(self, c: int, level: int, images: Any, predict: Any, rng: np.random.Generator) -> bool:
        """Return whether the network classifies enough of a class's images correctly at a level."""
        size = self.samples * (level + 1)
        tested = images(rng.choice(self.members[c], size)).cpu().numpy()
        seeds = rng.integers(2**32, size=size)
        strong = [augment_by_level(x, level, int(seed)) for x, seed in zip(tested, seeds, strict=True)]
        right = predict(torch.from_numpy(np.stack(strong))).cpu().numpy() == c
        return bool(right.mean() > self.threshold)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"levels": self.levels.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.levels = np.array(state["levels"], dtype=np.int64)

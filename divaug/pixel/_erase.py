"""Erase a box of each image, with grey or with noise; shared by ``cutout`` and ``random_erasing``."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class ErasePlan:
    """What is erased of each row.

    Attributes:
        boxes: ``(top, bottom, left, right)``, half open; empty where nothing is erased.
        fill: Grey 0-255, or -1 for noise.
        seeds: Seed of each row's noise.
    """

    boxes: Int[np.ndarray, "B 4"]
    fill: int
    seeds: Int[np.ndarray, "B"]


def _content(plan: ErasePlan, i: int, height: int, width: int, channels: int) -> np.ndarray | int:
    if plan.fill >= 0:
        return plan.fill
    generator = np.random.Generator(np.random.Philox(key=int(plan.seeds[i])))  # set up in half the time of default_rng
    return generator.integers(0, 256, (height, width, channels), np.uint8)


def erase_one(image: UInt8[np.ndarray, "H W ch"], plan: ErasePlan, i: int) -> UInt8[np.ndarray, "H W ch"]:
    """Erase row ``i``'s box."""
    top, bottom, left, right = plan.boxes[i]
    erased = image.copy()
    box = erased[top:bottom, left:right]  # smaller than drawn if an earlier step made the image smaller
    box[:] = _content(plan, i, *box.shape)
    return erased


def erase(images: UInt8[Tensor, "B H W ch"], plan: ErasePlan) -> UInt8[Tensor, "B H W ch"]:
    """Apply to a whole batch what ``erase_one`` does to an image."""
    erased = images.clone()
    target: Any = erased.numpy() if erased.device.type == "cpu" else erased  # filling slices of it is ten times faster
    for i, (top, bottom, left, right) in enumerate(plan.boxes.tolist()):
        if top < bottom and left < right:
            box = target[i, top:bottom, left:right]
            content: Any = _content(plan, i, *box.shape)
            if target is erased and plan.fill < 0:
                content = torch.from_numpy(content).to(images.device, non_blocking=True)
            box[:] = content
    return erased

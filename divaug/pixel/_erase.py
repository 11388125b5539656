"""Erase a box of each picture, with a grey or with noise; shared by ``cutout`` and ``random_erasing``."""

from dataclasses import dataclass

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


def _content(plan: ErasePlan, i: int, channels: int) -> np.ndarray | int:
    if plan.fill >= 0:
        return plan.fill
    top, bottom, left, right = plan.boxes[i]
    return np.random.default_rng(plan.seeds[i]).integers(0, 256, (bottom - top, right - left, channels), np.uint8)


def erase_one(image: UInt8[np.ndarray, "H W ch"], plan: ErasePlan, i: int) -> UInt8[np.ndarray, "H W ch"]:
    """Erase row ``i``'s box."""
    top, bottom, left, right = plan.boxes[i]
    erased = image.copy()
    erased[top:bottom, left:right] = _content(plan, i, image.shape[2])
    return erased


def erase(images: UInt8[Tensor, "B H W ch"], plan: ErasePlan) -> UInt8[Tensor, "B H W ch"]:
    """Do to a whole batch what ``erase_one`` does to a picture."""
    _, height, width, channels = images.shape
    if plan.fill >= 0:
        top, bottom, left, right = (torch.from_numpy(edge).to(images.device)[:, None] for edge in plan.boxes.T.copy())
        y, x = (torch.arange(length, device=images.device)[None] for length in (height, width))
        outside_y, outside_x = (y < top) | (y >= bottom), (x < left) | (x >= right)
        outside = outside_y[:, :, None] | outside_x[:, None, :]
        return torch.where(outside[..., None], images, plan.fill)
    erased = images.clone()
    for i in np.flatnonzero((plan.boxes[:, 1] > plan.boxes[:, 0]) & (plan.boxes[:, 3] > plan.boxes[:, 2])):
        top, bottom, left, right = plan.boxes[i]
        content = _content(plan, int(i), channels)
        assert isinstance(content, np.ndarray)
        erased[i, top:bottom, left:right] = torch.from_numpy(content).to(images.device)
    return erased

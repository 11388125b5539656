"""Shift and mirror images by drawn amounts; shared by ``shift`` and ``crop_flip``."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class TranslatePlan:
    """The shift and mirroring of each row.

    Attributes:
        down: Pixels by which the window moves down over the padded image, within -reach to reach.
        right: The same to the right.
        flipped: Whether the row is mirrored left to right.
        reach: Largest shift that could be drawn.
    """

    down: Int[np.ndarray, "B"]
    right: Int[np.ndarray, "B"]
    flipped: Bool[np.ndarray, "B"]
    reach: tuple[int, int]


def draw(rows: int, size: tuple[int, int], reach_frac: float, flip: float, rng: np.random.Generator) -> TranslatePlan:
    """Draw shifts uniformly within round(reach_frac * side) pixels, and mirror with probability ``flip``."""
    reach = round(reach_frac * size[0]), round(reach_frac * size[1])
    down = rng.integers(-reach[0], reach[0] + 1, rows)
    right = rng.integers(-reach[1], reach[1] + 1, rows)
    return TranslatePlan(down, right, rng.random(rows) < flip, reach)


def translate_one(image: UInt8[np.ndarray, "H W ch"], plan: TranslatePlan, i: int) -> UInt8[np.ndarray, "H W ch"]:
    """Shift row ``i``'s image over a black border, then mirror it."""
    height, width, _ = image.shape
    (pad_y, pad_x), top, left = plan.reach, plan.reach[0] + plan.down[i], plan.reach[1] + plan.right[i]
    padded = np.pad(image, ((pad_y, pad_y), (pad_x, pad_x), (0, 0)))
    window = padded[top : top + height, left : left + width]
    return np.ascontiguousarray(window[:, ::-1] if plan.flipped[i] else window)


def translate(images: UInt8[Tensor, "B H W ch"], plan: TranslatePlan) -> UInt8[Tensor, "B H W ch"]:
    """Apply to a whole batch what ``translate_one`` does to an image."""
    return copy_windows(images, plan) if images.device.type == "cpu" else gather_windows(images, plan)


def copy_windows(images: UInt8[Tensor, "B H W ch"], plan: TranslatePlan) -> UInt8[Tensor, "B H W ch"]:
    """Copy what stays visible of each image, row by row: fastest in main memory."""
    source = images.numpy()
    shifted = np.zeros_like(source)
    _, height, width, channels = source.shape
    y, x = np.maximum(plan.down, 0), np.maximum(plan.right, 0)  # where each window begins, and where it goes
    rows, columns = height - np.abs(plan.down), width - np.abs(plan.right)
    top = y - plan.down
    left = np.where(plan.flipped, x, x - plan.right)  # mirrored, the border is on the other side
    places = np.stack([y, y + rows, x, x + columns, top, top + rows, left, left + columns], axis=1)
    for i, (flipped, (y0, y1, x0, x1, top, bottom, left, right)) in enumerate(
        zip(plan.flipped.tolist(), places.tolist(), strict=True)
    ):
        window, there = source[i, y0:y1, x0:x1], shifted[i, top:bottom, left:right]
        if flipped:
            for channel in range(channels):  # numpy reverses a plane twice as fast as pixels of three bytes
                there[..., channel] = window[:, ::-1, channel]
        else:
            there[:] = window
    return torch.from_numpy(shifted)


def gather_windows(images: UInt8[Tensor, "B H W ch"], plan: TranslatePlan) -> UInt8[Tensor, "B H W ch"]:
    """Take each image's window out of the padded batch at once: fastest on an accelerator."""
    rows, height, width, channels = images.shape
    pad_y, pad_x = plan.reach
    padded = images.new_zeros(rows, height + 2 * pad_y, width + 2 * pad_x, channels)
    padded[:, pad_y : pad_y + height, pad_x : pad_x + width] = images
    # All windows of all images as a view; indexing copies only the one drawn: (B, ch, H, W).
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)
    drawn = plan.down + pad_y, plan.right + pad_x, plan.flipped
    pick = [torch.from_numpy(values).to(images.device, non_blocking=True) for values in drawn]
    shifted = windows[torch.arange(rows, device=images.device), pick[0], pick[1]]
    mirrored = torch.where(pick[2][:, None, None, None], shifted.flip(3), shifted)
    return mirrored.permute(0, 2, 3, 1)

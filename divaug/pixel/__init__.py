"""Pixel augmentation: one image in, one image out.

``sample(labels, size, rng)`` draws a plan for a whole batch, once per step and on the host. ``apply_one(image, plan,
i)`` then does to the uint8 image ``(H, W, ch)`` of row ``i`` what was drawn for it, as a pure function of the plan. A
batched ``apply(images, plan)`` is optional.

Example:
    >>> import numpy as np
    >>> import torch
    >>> from divaug.pixel import Cutout
    >>> image, cutout = np.zeros((4, 4, 1), dtype=np.uint8), Cutout(size_frac=0.25, fill=9)
    >>> plan = cutout.sample(torch.tensor([0]), (4, 4), np.random.default_rng(0))
    >>> int(cutout.apply_one(image, plan, 0).sum())  # one pixel of sixteen
    9
"""

from divaug.config.source import lazy

__getattr__, __dir__ = lazy("divaug.pixel", "PIXEL")

"""Mixes: a batch of images in, a batch of images and mixed labels out.

``sample(labels, size, rng)`` draws a plan, once per step and on the host. ``apply(images, labels, plan, donors)`` then
mixes on the device, as a pure function of the plan that leaves its inputs unchanged. A mix that takes partners from the
whole training cut says which ones in ``donors(labels, rng)``.

Example:
    >>> import numpy as np
    >>> import torch
    >>> from divaug.mix import CutMix
    >>> images, labels, mix = torch.rand(8, 3, 16, 16), torch.arange(8), CutMix(prob=1.0)
    >>> plan = mix.sample(labels, (16, 16), np.random.default_rng(0))
    >>> mixed, target = mix.apply(images, labels, plan)
    >>> mixed.shape, target.ids.shape
    (torch.Size([8, 3, 16, 16]), torch.Size([8, 2]))
    >>> target.weights.sum(1).tolist() == [1.0] * 8
    True
"""

from divaug.config.source import lazy

__getattr__, __dir__ = lazy("divaug.mix", "MIX")

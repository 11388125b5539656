"""Samplers: which training images an epoch visits.

``draw(rng, progress)`` returns the positions in the training cut that one epoch visits, in order, and
``class_probs(progress)`` each class's share of the draws; ``progress`` is the part of training that is done, in [0, 1).
Everything random comes from the generator that is passed in.

Example:
    >>> import numpy as np
    >>> import torch
    >>> from divaug.samplers import Oversample
    >>> labels = torch.tensor([0] * 90 + [1] * 10)
    >>> sampler = Oversample(labels, torch.bincount(labels))
    >>> sampler.class_probs(0.0).tolist()
    [0.5, 0.5]
    >>> sampler.draw(np.random.default_rng(0), 0.0).shape
    torch.Size([100])
"""

from divaug.config.source import lazy

__getattr__, __dir__ = lazy("divaug.samplers", "SAMPLERS")

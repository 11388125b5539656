"""Feature augmentation: a batch of embeddings and its labels in, embeddings and labels out.

A component is an ``nn.Module`` called as ``component(z, target, rng)``; ``target`` is ``MixedLabels``. The batch's own
rows come first, in order, and statistics that it gathers over training are buffers. It changes nothing in evaluation
mode.

Example:
    >>> import numpy as np
    >>> import torch
    >>> from divaug import MixedLabels
    >>> from divaug.feature import ManifoldMixup
    >>> z, target = torch.eye(2), MixedLabels.hard(torch.tensor([0, 1]))
    >>> z, target = ManifoldMixup(alpha=2.0)(z, target, np.random.default_rng(0))
    >>> z.shape, target.ids.shape
    (torch.Size([2, 2]), torch.Size([2, 2]))
"""

from divaug.config.source import lazy

__getattr__, __dir__ = lazy("divaug.feature", "FEATURE")

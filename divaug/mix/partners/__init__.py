"""Partner rules: which images of the whole training cut are mixed into a batch.

``draw(labels, rng)`` returns, for each row of a batch, the position in the training cut of its partner, given the rows'
labels. The option ``partner`` of a mix names a rule, or holds one that is built by hand.

Example:
    >>> import numpy as np
    >>> import torch
    >>> from divaug.mix.partners import Minority
    >>> labels = torch.tensor([0] * 90 + [1] * 10)
    >>> rule = Minority(labels, torch.bincount(labels), power=1.0)  # both classes are drawn alike
    >>> partners = rule.draw(torch.zeros(1000, dtype=torch.int64), np.random.default_rng(0))
    >>> round(labels[partners].float().mean().item(), 1)
    0.5
"""

from divaug.config.source import lazy

__getattr__, __dir__ = lazy("divaug.mix.partners", "PARTNERS")

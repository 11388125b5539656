"""A mix and its loss in a loop of one's own."""

from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from divaug.base.contracts import Donors, Mix, WholeMix, complete
from divaug.base.labels import MixedLabels, mixed_loss


def mix_batch(
    images: Float[Tensor, "B ch H W"],
    labels: Int[Tensor, "B"],
    mix: Mix,
    *,
    pool: tuple[Float[Tensor, "N ch H W"], Int[Tensor, "N"]] | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Float[Tensor, "B2 ch H W"], MixedLabels]:
    """Mix a batch with any component of the family ``mix``.

    Args:
        images: Normalised images, on any device.
        labels: Their classes.
        mix: The mix.
        pool: Images of the training set and their classes, for mixes with partners from there (CMO, ``minority``,
            ``diverse``): what their ``labels`` were. They should be augmented as the batch is.
        rng: Generator of the draws; None draws from torch's global one.

    Returns:
        The mixed images and their labels, for ``soft_cross_entropy``.

    Raises:
        ValueError: The mix wants partners from the training set, and no pool is given.

    Example:
        >>> import torch
        >>> from divaug.interop import mix_batch, soft_cross_entropy
        >>> from divaug.mix import CutMix
        >>> images, labels = torch.randn(8, 3, 16, 16), torch.randint(5, (8,))
        >>> mixed, target = mix_batch(images, labels, CutMix(prob=1.0))
        >>> loss = soft_cross_entropy(torch.randn(8, 5, requires_grad=True), target)
        >>> loss.backward()
    """
    whole = cast(WholeMix, complete(mix))
    rng = rng or np.random.default_rng(int(torch.randint(2**62, ())))
    host = labels.cpu()
    asked, donors = whole.donors(host, rng), None
    if asked is not None:
        if pool is None:
            raise ValueError(f"{type(mix).__name__} takes partners from the training set: give pool=(images, labels)")
        given = pool[0][asked.to(pool[0].device)].to(images.device, non_blocking=True)
        # Whether a donor is the row itself is not known here: a batch has no positions in the pool.
        donors = Donors(given, pool[1].cpu()[asked], asked.numpy(), np.zeros(len(host), dtype=bool))
    plan = whole.sample(host, (images.shape[2], images.shape[3]), rng)
    return whole.apply(images, labels, plan, donors)


def soft_cross_entropy(
    logits: Float[Tensor, "B C"],
    target: MixedLabels,
    class_weights: Float[Tensor, "C"] | None = None,
    *,
    loss: Any = None,
) -> Float[Tensor, ""]:
    """Return the mean loss over mixed labels: sum(label weight x class weight x loss) / sum of these weights.

    For hard labels it is ``torch.nn.functional.cross_entropy(logits, labels, class_weights)``.

    Args:
        logits: Final logits.
        target: What ``mix_batch`` returned.
        class_weights: One weight >= 0 per class.
        loss: Any component of the family ``losses``; cross-entropy by default.

    Example:
        >>> import torch
        >>> from divaug import MixedLabels
        >>> from divaug.interop import soft_cross_entropy
        >>> logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> round(soft_cross_entropy(logits, MixedLabels.hard(labels)).item(), 3)
        0.127
    """
    rows = loss or (lambda outputs, ids: F.cross_entropy(outputs.float(), ids, reduction="none"))
    return mixed_loss(rows, logits, target, class_weights)

"""Labels: the one target type, and the one place where losses are weighted and reduced."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class MixedLabels:
    """A convex combination of K hard labels for every row; a plain batch has K = 1.

    Attributes:
        ids: Class indices.
        weights: float32 label weights lambda; every row sums to 1.
        mixed: Rows whose image or embedding is made of two, which the labels alone do not show (both may be of one
            class; Remix moves a whole label). None: rows with more than one weight > 0.

    Example:
        >>> import torch
        >>> from divaug import MixedLabels
        >>> target = MixedLabels(torch.tensor([[0, 1], [2, 0]]), torch.tensor([[0.75, 0.25], [1.0, 0.0]]))
        >>> target.dominant().tolist(), target.is_mixed().tolist()
        ([0, 2], [True, False])
        >>> target.mass(3).tolist()
        [0.75, 0.25, 1.0]
    """

    ids: Int[Tensor, "B K"]
    weights: Float[Tensor, "B K"]
    mixed: Bool[Tensor, "B"] | None = None

    def take(self, rows: slice) -> "MixedLabels":
        """Return the labels of some rows."""
        return MixedLabels(self.ids[rows], self.weights[rows], None if self.mixed is None else self.mixed[rows])

    @classmethod
    def hard(cls, labels: Int[Tensor, "B"]) -> "MixedLabels":
        """Wrap plain labels: K = 1, weight 1."""
        return cls(labels[:, None], torch.ones(len(labels), 1, device=labels.device))

    def dominant(self) -> Int[Tensor, "B"]:
        """Return each row's label of largest weight; ties go to the first."""
        return self.ids.gather(1, self.weights.argmax(1, keepdim=True)).squeeze(1)

    def is_mixed(self) -> Tensor:
        """Return a boolean ``(B,)``: True where a row is made of more than one image or embedding."""
        return (self.weights > 0).sum(1) > 1 if self.mixed is None else self.mixed

    def mass(self, num_classes: int) -> Float[Tensor, "C"]:
        """Return the label mass of every class in the batch, in float64."""
        mass = torch.zeros(num_classes, dtype=torch.float64, device=self.ids.device)
        return mass.index_add_(0, self.ids.flatten(), self.weights.flatten().double())


def mixed_loss(
    loss: Callable[[Float[Tensor, "B C"], Int[Tensor, "B"]], Float[Tensor, "B"]],
    logits: Float[Tensor, "B C"],
    target: MixedLabels,
    class_weights: Float[Tensor, "C"] | None = None,
    *,
    whole: Callable[[Tensor], Tensor] = lambda norm: norm,
) -> Float[Tensor, ""]:
    """Reduce a per-row loss over mixed labels: sum(lambda * w * l) / sum(lambda * w).

    ``lambda`` is the label weight and ``w`` the weight of that label's class. For hard labels and cross-entropy this
    is torch's weighted cross-entropy with mean reduction; for mixed labels the denominator keeps class weights from
    changing the learning rate.

    Args:
        loss: Any component of the ``losses`` family.
        logits: Final logits, scale included.
        target: Labels and their weights.
        class_weights: One weight >= 0 per class; None weighs all alike.
        whole: Maps the denominator of these rows to that of the batch of which they are a part; such losses add up.

    Raises:
        ValueError: The loss does not return one value per row; ``(B, 1)`` would be broadcast to ``(B, B)``.

    Example:
        >>> import torch
        >>> from divaug import MixedLabels, mixed_loss
        >>> from divaug.losses import CrossEntropy
        >>> logits, target = torch.zeros(2, 4), MixedLabels.hard(torch.tensor([0, 3]))
        >>> round(mixed_loss(CrossEntropy(), logits, target).item(), 3)  # log 4
        1.386
    """
    total = logits.new_zeros((), dtype=torch.float32)
    norm = logits.new_zeros((), dtype=torch.float32)
    for ids, weights in zip(target.ids.unbind(1), target.weights.unbind(1), strict=True):
        scale = weights if class_weights is None else weights * class_weights[ids]
        values = loss(logits, ids)
        if values.shape != ids.shape:
            name = getattr(loss, "__name__", type(loss).__name__)
            raise ValueError(f"the loss {name} returned {tuple(values.shape)} for {len(ids)} rows: one loss per row")
        total = total + (scale * values).sum()
        norm = norm + scale.sum()
    return total / whole(norm).clamp_min(torch.finfo(norm.dtype).tiny)  # 0 if all classes of the batch have weight 0

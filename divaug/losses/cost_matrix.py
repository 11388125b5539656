from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.config.registry import LOSSES
from divaug.losses._logits import cross_entropy_rows, of_classes


@LOSSES.register("cost_matrix")
class CostMatrix(nn.Module):
    """Softmax-margin: cross-entropy in which class k must be beaten by the cost of taking the label for k.

    The cost of a row's label for every class is added to its logits. The loss is an upper bound of the expected cost.

    Args:
        class_counts: Training images of each class.
        costs: For every label a row with the cost of each prediction, >= 0 and 0 for the label itself; without it every
            error costs 1.

    Raises:
        ValueError: The matrix is not C x C, or a cost is out of range.

    Reference:
        Gimpel and Smith, Softmax-Margin CRFs: Training Log-Linear Models with Cost Functions, NAACL 2010.

    Differs from the paper: single labels instead of sequences.
    """

    costs: Tensor

    def __init__(self, class_counts: Int[Tensor, "C"], *, costs: Sequence[Sequence[float]] = ()) -> None:
        super().__init__()
        size = len(class_counts)
        if costs and {len(row) for row in costs} | {len(costs)} != {size}:
            raise ValueError(f"costs must have {size} rows of {size} numbers, one for every class")
        matrix = torch.tensor([list(row) for row in costs]) if costs else 1 - torch.eye(size)
        if not (torch.isfinite(matrix).all() and (matrix >= 0).all() and (matrix.diagonal() == 0).all()):
            raise ValueError("costs must be >= 0, and 0 on the diagonal: a right prediction costs nothing")
        self.register_buffer("costs", matrix.float())

    def forward(self, logits: Float[Tensor, "B C"], ids: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Return one loss per row."""
        wide = of_classes(logits, len(self.costs))
        return cross_entropy_rows(wide + self.costs.to(wide)[ids], ids)

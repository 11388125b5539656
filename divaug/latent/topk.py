"""Classification embeddings and the top-K features of single pictures.

Reference:
    Dablain et al., Understanding CNN Fragility When Learning With Imbalanced Data, arXiv:2210.09465.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def classification_embeddings(
    features: Float[Tensor, "B D"], weight: Float[Tensor, "C D"], classes: Int[Tensor, "B"]
) -> Float[Tensor, "B D"]:
    """Return each row's classification embedding (CE): FE times the weights of its class, elementwise.

    The CE of a class sum, with its bias, to its logit (for a head of scale 1).

    Args:
        features: Feature embeddings (FE); for a cosine head, normalised.
        weight: Weights of the head; for a cosine head, normalised.
        classes: The class whose weights each row takes: its label, its prediction, or any.

    Differs from the paper: nothing.
    """
    return features * weight[classes]


def top_k_incidence(values: Float[Tensor, "B D"], k: int) -> tuple[Int[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """Return the indices of each row's k largest values, and which of them belong to its top-K set.

    Only values > 0 belong to a set: with three positive contributions a plain top-10 would count seven features that
    argue for nothing. Ties go to the lower index.

    Args:
        values: CE, or FE where there are no class weights.
        k: Size of the sets, 1 to D.

    Raises:
        ValueError: k outside 1 to D.

    Differs from the paper: zeros and negative contributions are left out.
    """
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k must lie in 1 to D = {values.shape[1]}, got {k}")
    ordered, order = torch.sort(values, dim=1, descending=True, stable=True)
    return order[:, :k], ordered[:, :k] > 0


def adaptive_top_k(
    ce: Float[np.ndarray, "N D"], bias: Float[np.ndarray, "N"], runner_up: Float[np.ndarray, "N"]
) -> list[Int[np.ndarray, "K"]]:
    """Return for each picture the fewest largest CE that carry its class past the runner-up.

    The smallest prefix of the CE in descending order whose sum, with the bias and all negative CE, reaches the
    runner-up's logit; computed in float64, with a tolerance of 1e-6.

    Args:
        ce: CE of the predicted class.
        bias: Bias of the predicted class.
        runner_up: Second largest logit.

    Reference:
        Dablain et al., arXiv:2407.10165, "number of CE required to predict an instance".

    Differs from the paper: the bias is the predicted class's, where the authors' code takes the true class's.
    """
    ce = ce.astype(np.float64)
    order = np.argsort(-ce, axis=1, kind="stable")
    ordered = np.take_along_axis(ce, order, axis=1)
    start = bias + np.minimum(ordered, 0).sum(1)
    reached = start[:, None] + np.concatenate([np.zeros((len(ce), 1)), ordered.cumsum(1)], axis=1)
    enough = reached >= runner_up[:, None] - 1e-6
    sizes = np.where(enough.any(1), enough.argmax(1), ce.shape[1])
    return [row[:size] for row, size in zip(order, sizes, strict=True)]

"""Classification embeddings and top-K sets on tensors, for the training stream; ``instances`` has them for bundles.

Reference:
    Dablain et al., Understanding CNN Fragility When Learning With Imbalanced Data, arXiv:2210.09465.
"""

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

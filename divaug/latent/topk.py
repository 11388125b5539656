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

    The CE of a class, summed, plus its bias give its logit (for a head of scale 1).

    Args:
        features: Feature embeddings (FE); for a cosine head, normalised.
        weight: Weights of the head; for a cosine head, normalised.
        classes: The class whose weights each row takes: its label, its prediction, or any other.

    Differs from the paper: nothing.

    Example:
        >>> import torch
        >>> from divaug.latent import classification_embeddings
        >>> weight = torch.tensor([[3.0, 0.5], [0.0, 1.0]])
        >>> classification_embeddings(torch.tensor([[1.0, 2.0]]), weight, torch.tensor([0])).tolist()
        [[3.0, 1.0]]
    """
    return features * weight[classes]


def top_k_incidence(values: Float[Tensor, "B D"], k: int) -> tuple[Int[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """Return the indices of each row's k largest values, and which of them belong to its top-K set.

    Only values > 0 belong to a set: with three positive contributions, a plain top-10 would count seven features that
    do not speak for the class. Ties go to the lower index.

    Args:
        values: CE, or FE where there are no class weights.
        k: Size of the sets, 1 to D.

    Raises:
        ValueError: k outside 1 to D.

    Differs from the paper: zeros and negative contributions are left out.

    Example:
        >>> import torch
        >>> from divaug.latent import top_k_incidence
        >>> features, belongs = top_k_incidence(torch.tensor([[3.0, 0.0, 1.0, -1.0]]), 3)
        >>> features.tolist(), belongs.tolist()
        ([[0, 2, 1]], [[True, True, False]])
    """
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k must lie in 1 to D = {values.shape[1]}, got {k}")
    ordered, order = torch.sort(values, dim=1, descending=True, stable=True)
    return order[:, :k], ordered[:, :k] > 0

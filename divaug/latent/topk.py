"""Classification embeddings and top-K sets on tensors, for the training stream; ``instances`` has them for bundles.

Reference:
    Dablain et al., Understanding CNN Fragility When Learning With Imbalanced Data, arXiv:2210.09465.
"""

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


def top_k_sets(values: Float[Tensor, "B D"], k: int) -> Bool[Tensor, "B D"]:
    """Return which features belong to each row's top-K set: its k largest values, if they are > 0.

    Only values > 0 belong to a set: with three positive contributions, a plain top-10 would count seven features that
    do not speak for the class. Ties go to the lower index: the k-th largest value is a threshold, and of the values
    equal to it the first are taken, as many as fit.

    Args:
        values: CE, or FE where there are no class weights; not NaN.
        k: Size of the sets, 1 to D.

    Raises:
        ValueError: k outside 1 to D.

    Differs from the paper: zeros and negative contributions are left out.

    Example:
        >>> import torch
        >>> from divaug.latent import top_k_sets
        >>> top_k_sets(torch.tensor([[1.0, 3.0, 1.0, -1.0]]), 2).tolist()
        [[True, True, False, False]]
    """
    if not 1 <= k <= values.shape[1]:
        raise ValueError(f"k must lie in 1 to D = {values.shape[1]}, got {k}")
    threshold = values.topk(k, dim=1).values[:, -1:]
    above, equal = values > threshold, values == threshold
    places = k - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= places))) & (values > 0)

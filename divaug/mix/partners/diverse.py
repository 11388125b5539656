from jaxtyping import Float, Int
from torch import Tensor

from divaug.config.registry import PARTNERS
from divaug.mix.partners._by_novelty import ByNovelty


@PARTNERS.register("diverse")
class Diverse(ByNovelty):
    """Draw partners with features that the receiving class's latent set lacks, in the space of a common encoder.

    A partner's class is drawn first, by ``power``, then one of the ``share`` of its images whose novelty for the
    row's class is largest (``_by_novelty`` defines it). ``redundant`` draws the same classes and takes
    the other end. The rules differ in more than novelty: a novel image is untypical of its class, and the number of
    distinct donors differs too.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Training images of each class.
        encoder_features: FE of every training image in the common space, ``(N, E)`` (needs --encoder).
        k: K of the top-K features compared, in 1 to E.
        share: Share of a class's images that are drawn, in (0, 1]; 1 makes both rules the same uniform draw.
        power: Rarity exponent of the partner's class, >= 0: 0 draws classes by size, 1 all classes equally.

    Differs from the paper: there is none; it tests the hypothesis of Dablain et al., arXiv:2210.09465.
    """

    strengths = ({"share": 1.0}, {"share": 0.5}, {"share": 0.1})

    def __init__(
        self,
        labels: Int[Tensor, "N"],
        class_counts: Int[Tensor, "C"],
        encoder_features: Float[Tensor, "N E"],
        *,
        k: int = 10,
        share: float = 0.25,
        power: float = 0.0,
    ) -> None:
        super().__init__(labels, class_counts, encoder_features, k=k, share=share, power=power, novel=True)

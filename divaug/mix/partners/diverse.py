from jaxtyping import Float, Int
from torch import Tensor

from divaug.config.registry import PARTNERS
from divaug.mix.partners._by_novelty import ByNovelty


@PARTNERS.register("diverse")
class Diverse(ByNovelty):
    """Draw partners that add features the receiving class's latent set lacks, in the space of a common encoder.

    A partner's class is drawn first, by ``power``, then one of the ``share`` of its pictures whose novelty for the
    row's class is largest (``_by_novelty`` defines it). ``redundant`` draws the same classes and takes
    the other end. Novelty is not all that differs: a novel image is an untypical one of its class, and the number of
    distinct donors differs too.

    Args:
        labels: Class of every picture of the training cut.
        class_counts: Training pictures of each class.
        encoder_features: FE of every training picture in the common space, ``(N, E)`` (needs --encoder).
        k: K of the top-K features compared, in 1 to E.
        share: Share of a class's pictures that are drawn, in (0, 1]; 1 makes both rules the same uniform draw.
        power: Rarity exponent of the partner's class, >= 0: 0 draws as the data are, 1 every class alike.

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

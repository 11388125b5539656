import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.contracts import Donors
from divaug.base.labels import MixedLabels
from divaug.config.registry import MIX


@MIX.register("none")
class NoMix:
    """Mix nothing.

    Differs from the paper: there is none.
    """

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> None:
        """Draw nothing."""

    def apply(
        self, images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: None, donors: Donors | None = None
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Return the images with their labels at weight 1."""
        return images, MixedLabels.hard(labels)

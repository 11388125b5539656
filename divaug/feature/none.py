import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from divaug.base.labels import MixedLabels
from divaug.config.registry import FEATURE


@FEATURE.register("none")
class NoFeature(nn.Module):
    """Leave every embedding as it is.

    Differs from the paper: there is none.
    """

    def forward(
        self, z: Float[Tensor, "B D"], target: MixedLabels, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B D"], MixedLabels]:
        """Return the inputs."""
        return z, target

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from divaug.feature._memory import Deficit, FeatureMemory, append_rows
from divaug.labels import MixedLabels
from divaug.registry import FEATURE


@FEATURE.register("feature_smote")
class FeatureSmote(nn.Module):
    """Add synthetic embeddings of rare classes, between a remembered embedding and one of its neighbours in the class.

    They train the head; no gradient goes from them to the backbone. Of a class known by a single embedding copies are
    added; balanced data get none.

    Args:
        class_counts: Training pictures of each class; class c is drawn in proportion to n_max - n_c.
        feature_dim: D.
        rate: Synthetic rows for each real one, >= 0.
        neighbours: Nearest neighbours to choose from, >= 1.
        memory: Embeddings remembered a class, >= 2 (C * memory * D float32).

    Reference:
        Chawla et al., SMOTE, JAIR 16, 2002, arXiv:1106.1813; in the space of embeddings as Dablain et al.,
        arXiv:2207.06084.

    Differs from the paper: online, on a bounded memory of recent embeddings; the papers over-sample a finished table.
    """

    strengths = ({"rate": 0.1}, {"rate": 0.5}, {"rate": 2.0})

    def __init__(
        self,
        class_counts: Int[Tensor, "C"],
        feature_dim: int,
        *,
        rate: float = 0.5,
        neighbours: int = 5,
        memory: int = 64,
    ) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours must be >= 1, got {neighbours}")
        self.neighbours = neighbours
        self.deficit = Deficit(class_counts, rate)
        self.memory = FeatureMemory(len(class_counts), feature_dim, memory)

    def forward(
        self, z: Float[Tensor, "B D"], target: MixedLabels, rng: np.random.Generator
    ) -> tuple[Float[Tensor, "B2 D"], MixedLabels]:
        """Remember the batch and put synthetic rows behind it."""
        if not self.training:
            return z, target
        self.memory.add(z, target)
        filled = self.memory.filled.cpu().numpy()
        classes = self.deficit.draw(len(z), filled, rng)
        u = torch.from_numpy(rng.random((3, len(classes)))).float().to(z.device)
        index = torch.from_numpy(classes).to(z.device)
        known = self.memory.filled[index]
        points = self.memory.features[index]  # (R, M, D)
        base_slot = (u[0] * known).long().clamp(max=self.memory.slots - 1)
        base = points[torch.arange(len(index), device=z.device), base_slot]
        slots = torch.arange(self.memory.slots, device=z.device)
        distance = torch.linalg.vector_norm(points - base[:, None], dim=2)
        # itself is left out by its place: at distance 0 there may be duplicates too
        unusable = (slots >= known[:, None]) | (slots == base_slot[:, None])
        nearest = distance.masked_fill(unusable, torch.inf).argsort(dim=1, stable=True)
        choices = (known - 1).clamp(max=self.neighbours)
        chosen = nearest.gather(1, (u[1] * choices).long()[:, None]).squeeze(1)
        other = points[torch.arange(len(index), device=z.device), torch.where(choices > 0, chosen, base_slot)]
        return append_rows(z, target, torch.lerp(base, other, u[2][:, None]), index)

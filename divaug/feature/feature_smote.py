import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.config.registry import FEATURE
from divaug.feature._memory import Synthetic


@FEATURE.register("feature_smote", tune={"rate": (0.1, 1.0), "neighbours": (2, 10)})
class FeatureSmote(Synthetic):
    """Add synthetic embeddings of rare classes, between a remembered embedding and one of its neighbours in the class.

    The new rows train the head; no gradient goes from them to the backbone. A class with a single remembered embedding
    gets copies of it; balanced data get no rows.

    Args:
        class_counts: Training images of each class; class c is drawn in proportion to n_max - n_c.
        feature_dim: D.
        rate: Synthetic rows per real row, >= 0.
        neighbours: Nearest neighbours to choose from, >= 1.
        memory: Embeddings remembered per class, >= 2 (C * memory * D float32).

    Reference:
        Chawla et al., SMOTE, JAIR 16, 2002, arXiv:1106.1813.

    Differs from the paper: in the space of embeddings, online, on a bounded memory of recent ones; the paper
    over-samples a finished table.
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
        super().__init__(class_counts, feature_dim, rate=rate, neighbours=neighbours, memory=memory)

    def make(self, classes: Int[Tensor, "R"], u: Float[Tensor, "3 R"]) -> tuple[Float[Tensor, "M D"], Int[Tensor, "M"]]:
        """Return points between remembered embeddings and one of their neighbours."""
        known = self.memory.filled[classes]
        points = self.memory.features[classes]  # (R, M, D)
        base_slot = (u[0] * known).long().clamp(max=self.memory.slots - 1)
        base = points[torch.arange(len(classes), device=classes.device), base_slot]
        slots = torch.arange(self.memory.slots, device=classes.device)
        distance = torch.linalg.vector_norm(points - base[:, None], dim=2)
        # itself is left out by position: duplicates may be at distance 0 too
        unusable = (slots >= known[:, None]) | (slots == base_slot[:, None])
        nearest = distance.masked_fill(unusable, torch.inf).argsort(dim=1, stable=True)
        choices = (known - 1).clamp(max=self.neighbours)
        chosen = nearest.gather(1, (u[1] * choices).long()[:, None]).squeeze(1)
        other = points[torch.arange(len(classes), device=classes.device), torch.where(choices > 0, chosen, base_slot)]
        return torch.lerp(base, other, u[2][:, None]), classes

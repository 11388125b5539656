import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.config.registry import FEATURE
from divaug.feature._memory import Synthetic


@FEATURE.register("eos", tune={"rate": (0.1, 1.0), "neighbours": (3, 20)})
class EOS(Synthetic):
    """Add synthetic embeddings of rare classes on the way to their nearest enemies (expansive over-sampling).

    A remembered embedding of a rare class may have other classes among its neighbours in the memory. It is moved
    towards one of these enemies, anywhere on the segment, and keeps its label. The new rows train the head; no gradient
    goes from them to the backbone. An embedding without an enemy yields no row; balanced data get no rows.

    Args:
        class_counts: Training images of each class; class c is drawn in proportion to n_max - n_c.
        feature_dim: D.
        rate: Synthetic rows per real row, >= 0, before those without an enemy are left out.
        neighbours: Nearest neighbours searched for enemies, >= 1.
        memory: Embeddings remembered per class, >= 2 (C * memory * D float32).

    Reference:
        Dablain et al., Efficient Augmentation for Imbalanced Deep Learning, ICDE 2023, arXiv:2207.06080.

    Differs from the paper: online, on a bounded memory of recent embeddings. The authors' three phases (train,
    over-sample, train a new head) are ``python -m divaug.recipes.posthoc RUN --method eos``.
    """

    strengths = ({"rate": 0.1}, {"rate": 0.5}, {"rate": 2.0})

    def __init__(
        self,
        class_counts: Int[Tensor, "C"],
        feature_dim: int,
        *,
        rate: float = 0.5,
        neighbours: int = 10,
        memory: int = 64,
    ) -> None:
        super().__init__(class_counts, feature_dim, rate=rate, neighbours=neighbours, memory=memory)

    def make(self, classes: Int[Tensor, "R"], u: Float[Tensor, "3 R"]) -> tuple[Float[Tensor, "M D"], Int[Tensor, "M"]]:
        """Move remembered embeddings towards an enemy; those without one are left out."""
        slots = self.memory.slots
        base_slot = (u[0] * self.memory.filled[classes]).long().clamp(max=slots - 1)
        points, place = self.memory.features.flatten(0, 1), classes * slots + base_slot
        base = points[place]
        distance = torch.cdist(base, points, compute_mode="donot_use_mm_for_euclid_dist")
        empty = torch.arange(slots, device=classes.device) >= self.memory.filled[:, None]
        distance = distance.masked_fill(empty.flatten(), torch.inf).scatter(1, place[:, None], torch.inf)
        nearest = distance.topk(min(self.neighbours, len(points) - 1), dim=1, largest=False)
        enemy = (nearest.indices // slots != classes[:, None]) & nearest.values.isfinite()
        enemies = enemy.sum(1)
        wanted = (u[1] * enemies).long() + 1  # the wanted-th of a row's enemies
        chosen = ((enemy.cumsum(1) == wanted[:, None]) & enemy).float().argmax(1)
        other = points[nearest.indices.gather(1, chosen[:, None]).squeeze(1)]
        has = enemies > 0
        return torch.lerp(base, other, u[2][:, None])[has], classes[has]

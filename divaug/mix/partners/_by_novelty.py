"""Partners by what they would add to the receiving class: shared by ``diverse`` and ``redundant``."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import ClassDraw


class ByNovelty:
    """Draw a partner's class, then one of that class's images by its novelty for the row's class.

    The novelty of image i for class c, in the space of a common encoder, is the mean over i's top-K features of
    1 - f(c, d) / n_c, where f counts the images of class c that have d in their top K: 1 if c lacks all of them, 0 if
    all images of c have them. Classes and positions are drawn before novelty is used, so rules that take different
    ends of the ranking draw the same classes.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Training images of each class.
        encoder_features: FE of every training image in the common space, ``(N, E)``.
        k: K, in 1 to E.
        share: Share of a class's ranking to draw from, in (0, 1]; 1 draws all images equally.
        power: Rarity exponent of the partner's class, >= 0: 0 draws classes by size, 1 all classes equally.
        novel: Take the images that add most; else those that add least.
    """

    def __init__(
        self,
        labels: Int[Tensor, "N"],
        class_counts: Int[Tensor, "C"],
        encoder_features: Float[Tensor, "N E"],
        *,
        k: int,
        share: float,
        power: float,
        novel: bool,
    ) -> None:
        if not 1 <= k <= encoder_features.shape[1]:
            raise ValueError(f"k must lie in 1 to E = {encoder_features.shape[1]}, got {k}")
        if not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share}")
        same_counts(labels, class_counts)
        if power < 0:
            raise ValueError(f"power must be >= 0, got {power}")
        counts = class_counts.double()
        self.source = ClassDraw(labels, torch.where(counts > 0, counts.clamp_min(1) ** (1 - power), 0.0))
        self.share, self.novel = share, novel
        top = encoder_features.topk(k, dim=1)
        held = torch.zeros(encoder_features.shape, dtype=torch.float32)
        held.scatter_(1, top.indices, (top.values > 0).float())  # only contributions > 0 are in a top-K set
        frequency = torch.zeros(len(counts), held.shape[1]).index_add_(0, labels, held)
        frequency /= class_counts.clamp_min(1)[:, None]
        size = held.sum(1).clamp_min(1)
        self.novelty = ((held @ (1 - frequency).T) / size[:, None]).numpy()  # (N, C)
        self.rankings: dict[tuple[int, int], np.ndarray] = {}

    def draw(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"]:
        """Draw a partner for each row, given the class that would receive it."""
        classes = rng.choice(len(self.source.probs), size=len(labels), p=self.source.probs.numpy())
        u = rng.random(len(labels))
        picked = []
        for receiver, giver, x in zip(labels.tolist(), classes.tolist(), u, strict=True):
            ranking = self._ranking(receiver, giver)
            picked.append(ranking[int(x * max(1, round(self.share * len(ranking))))])
        return torch.tensor(picked, dtype=torch.int64)

    def _ranking(self, receiver: int, giver: int) -> np.ndarray:
        """Return the giver class's images, those preferred for the receiver first; ties by position."""
        if (receiver, giver) not in self.rankings:
            start, count = self.source.starts[giver], self.source.counts[giver]
            members = self.source.by_class[start : start + count]
            novelty = self.novelty[members, receiver]
            self.rankings[receiver, giver] = members[np.argsort(-novelty if self.novel else novelty, kind="stable")]
        return self.rankings[receiver, giver]

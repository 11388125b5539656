import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from divaug.base.groups import rank_groups
from divaug.config.registry import PARTNERS


@PARTNERS.register("within_group")
class WithinGroup:
    """Draw partners from the images of the row's own group of classes: head, mid or tail.

    All images of the group are equally likely, so a tail image is never mixed with a head one.

    Args:
        labels: Class of every image of the training cut.
        group_counts: Counts of the long-tailed cut that define the groups, ``(C,)``.

    Differs from the paper: there is none; a control for rules that mix across groups.
    """

    def __init__(self, labels: Int[Tensor, "N"], group_counts: Int[Tensor, "C"]) -> None:
        self.group_of = torch.zeros(len(group_counts), dtype=torch.int64)
        groups = list(rank_groups(group_counts.numpy()).values())
        for number, classes in enumerate(groups):
            self.group_of[torch.from_numpy(np.asarray(classes))] = number
        of_picture = self.group_of[labels].numpy()
        self.members = [np.flatnonzero(of_picture == number) for number in range(len(groups))]

    def draw(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"]:
        """Draw an image of each row's group."""
        u = rng.random(len(labels))
        groups = self.group_of[labels].tolist()
        picked = [self.members[g][int(x * len(self.members[g]))] for g, x in zip(groups, u, strict=True)]
        return torch.tensor(picked, dtype=torch.int64)

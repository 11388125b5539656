import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.groups import same_counts
from divaug.base.rng import stream
from divaug.config.registry import SAMPLERS


@SAMPLERS.register("undersample", tune={"ratio": (1.0, 10.0, "log")})
class Undersample:
    """Keep as many images of every class as the smallest class has, and repeat them through the epoch.

    The kept images are fixed for the run: drawing new ones each epoch would be over-sampling by another name.

    Args:
        labels: Class of every image of the training cut.
        class_counts: Images of each class.
        seed: The run's seed, which fixes the images kept.
        ratio: Largest size of a class over that of the smallest, >= 1; 1 makes all classes equal.

    Reference:
        Buda et al., A systematic study of the class imbalance problem, 2018, arXiv:1710.05381.

    Differs from the paper: the kept images are repeated (in new orders) until the epoch has as many draws as there
    are images, so that all samplers cost the same steps.
    """

    def __init__(
        self, labels: Int[Tensor, "N"], class_counts: Int[Tensor, "C"], seed: int, *, ratio: float = 1.0
    ) -> None:
        if ratio < 1:
            raise ValueError(f"ratio must be >= 1, got {ratio}")
        same_counts(labels, class_counts)
        present = class_counts.nonzero().flatten().tolist()
        size = int(ratio * int(class_counts[present].min()))
        members = [np.flatnonzero(labels.numpy() == c) for c in present]
        kept = [stream(seed, f"undersample/{c}").permutation(m)[:size] for c, m in zip(present, members, strict=True)]
        self.kept = np.concatenate(kept)
        self.rows = len(labels)
        sizes = class_counts.clamp_max(size).double()
        self.shares = sizes / sizes.sum()

    def class_probs(self, progress: float) -> Float[Tensor, "C"]:
        """Return the share of draws from each class."""
        return self.shares

    def draw(self, rng: np.random.Generator, progress: float) -> Int[Tensor, "M"]:
        """Return as many indices as there are images: permutations of the kept ones, one after the other."""
        rounds = -(-self.rows // len(self.kept))
        return torch.from_numpy(np.concatenate([rng.permutation(self.kept) for _ in range(rounds)])[: self.rows])

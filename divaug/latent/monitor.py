"""The monitor: follows each class's set of top-K classification embeddings. It observes and never interferes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from divaug.base.contracts import Factors
from divaug.base.labels import MixedLabels
from divaug.latent.counts import TopKCounts
from divaug.latent.rarefaction import rarefied_number
from divaug.latent.statistics import class_magnitude, effective_number
from divaug.latent.topk import classification_embeddings


class TopKMonitor:
    """Count the top-K classification embeddings (CE) of every class over a stream of batches.

    Every row counts towards the class of its largest label weight (ties: the first), with that class's CE; rows made
    of more than one image are kept apart from plain ones. Memory is O(K-list * C * D) whatever the number of
    images. On a CPU training is bit-identical with the monitor on and off.

    Args:
        num_classes: C.
        feature_dim: D.
        k: K of the top-K sets, 1 to D; or several, the first of which is named without its size.
        sizes: Sample sizes m of the rarefied numbers.

    Call ``monitor.update(z.detach(), target, model.head)`` in each step and ``monitor.compute()`` after the epoch.

    Reference:
        Dablain et al., arXiv:2210.09465.

    Differs from the paper: only contributions > 0 enter a set; all members of a class count, not only those
    recognised; numbers are also rarefied to a common sample size.

    Example:
        >>> import torch
        >>> from divaug import MixedLabels
        >>> from divaug.latent import TopKMonitor
        >>> z, labels = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 4.0, 1.0]]), torch.tensor([0, 0, 1])
        >>> monitor = TopKMonitor(num_classes=2, feature_dim=3, k=1)
        >>> monitor.update(z, MixedLabels.hard(labels), None)  # of FE; of CE with a head in the place of None
        >>> monitor.compute()["number"].tolist()
        [2.0, 1.0]
    """

    def __init__(
        self, num_classes: int, feature_dim: int, *, k: int | Sequence[int] = 10, sizes: Sequence[int] = (5, 20)
    ) -> None:
        self.sizes = tuple(sizes)
        self.ks = (k,) if isinstance(k, int) else tuple(k)
        self.num_classes = num_classes
        # Plain rows of class c count as c, mixed ones as C + c: one pass, and no branch that waits for the device.
        self.counts = TopKCounts(2 * num_classes, feature_dim, self.ks)

    @torch.no_grad()
    def update(self, z: Float[Tensor, "B D"], target: MixedLabels, head: Factors | nn.Linear | None) -> None:
        """Count a batch.

        Args:
            z: Embeddings, before any feature augmentation.
            target: Their labels.
            head: The classifier: one of divaug's heads, which has ``factors(z)``, or any linear layer. None in the
                space of a label-free encoder, where the sets are of the largest FE.
        """
        z = z.detach().float()
        classes = target.dominant()
        contributions = z
        if head is not None:
            features, weight = (z, head.weight) if isinstance(head, nn.Linear) else head.factors(z)
            contributions = classification_embeddings(features, weight.detach().float(), classes)
        self.counts.update(contributions, classes + self.num_classes * target.is_mixed())

    def compute(self) -> dict[str, np.ndarray]:
        """Return one float64 array ``(C,)`` per statistic, NaN where a class has no images (or fewer than m).

        ``n``: rows. ``number``: distinct top-K features, which grows with n. ``rarefied_M``: the number expected in M
        rows. ``effective``: effective number of features by frequency of use. ``magnitude``: mean CE over the class's
        top-K. All are over plain rows; the same names with the suffix ``_mixed`` are over mixed rows, where there are
        any. For the second and any further K the names end in ``_topK``, for example ``number_top20``.
        """
        incidence, n, mean = self.counts.arrays()
        plain, mixed = slice(self.num_classes), slice(self.num_classes, None)
        values = self._statistics(incidence[:, plain], n[plain], mean[plain])
        if n[mixed].any():
            of_mixed = self._statistics(incidence[:, mixed], n[mixed], mean[mixed])
            values |= {f"{name}_mixed": value for name, value in of_mixed.items()}
        return values

    def _statistics(self, every_incidence: np.ndarray, n: np.ndarray, mean: np.ndarray) -> dict[str, np.ndarray]:
        some = n > 0
        values = {"n": n.astype(np.float64)}
        for k, incidence in zip(self.ks, every_incidence, strict=True):
            suffix = "" if k == self.ks[0] else f"_top{k}"
            values |= {
                f"number{suffix}": np.where(some, (incidence > 0).sum(1), np.nan),
                f"effective{suffix}": effective_number(incidence.astype(np.float64)),
                f"magnitude{suffix}": np.where(some, class_magnitude(np.nan_to_num(mean), k), np.nan),
            }
            values |= {f"rarefied_{m}{suffix}": rarefied_number(incidence, n, m) for m in self.sizes}
        return values

    def reset(self) -> None:
        """Forget everything counted."""
        self.counts.reset()

    def merge(self, other: "TopKMonitor") -> None:
        """Add what another monitor counted over other rows (another rank, another batch)."""
        self.counts.merge(other.counts)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        return self.counts.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore counts from a checkpoint."""
        self.counts.load_state_dict(state)

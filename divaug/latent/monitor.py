"""The monitor: follows each class's set of top-K classification embeddings. It looks and never touches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from divaug.base.labels import MixedLabels
from divaug.latent.counts import TopKCounts
from divaug.latent.rarefaction import rarefied_number
from divaug.latent.statistics import class_magnitude, effective_number
from divaug.latent.topk import classification_embeddings

MIXED, PLAIN = "mixed", "plain"


class TopKMonitor:
    """Count the top-K classification embeddings (CE) of every class over a stream of batches.

    Every row counts towards the class of its largest label weight (ties: the first), with that class's CE; rows made
    of more than one picture are kept apart from plain ones. Memory is O(K-list * C * D) whatever the number of
    pictures. Training is bit-identical with the monitor on or off.

    Args:
        num_classes: C.
        feature_dim: D.
        k: K of the top-K sets, 1 to D; or several, the first being the one named without its size.
        sizes: Sample sizes m of the rarefied numbers.

    Example:
        ``monitor.update(z.detach(), target, model.head)`` in each step, ``monitor.compute()`` after the epoch.

    Reference:
        Dablain et al., arXiv:2210.09465.

    Differs from the paper: only contributions > 0 enter a set; all members of a class count, not only those
    recognised; numbers are also rarefied to a common sample size.
    """

    def __init__(
        self, num_classes: int, feature_dim: int, *, k: int | Sequence[int] = 10, sizes: Sequence[int] = (5, 20)
    ) -> None:
        self.sizes = tuple(sizes)
        self.ks = (k,) if isinstance(k, int) else tuple(k)
        self.counts = {kind: TopKCounts(num_classes, feature_dim, self.ks) for kind in (PLAIN, MIXED)}

    @torch.no_grad()
    def update(self, z: Float[Tensor, "B D"], target: MixedLabels, head: Any) -> None:
        """Count a batch.

        Args:
            z: Embeddings, before any feature augmentation.
            target: Their labels.
            head: The classifier, with ``factors(z)`` (divaug's heads) or a ``weight`` (any linear layer); None in the
                space of a label-free encoder, where the sets are of the largest FE.
        """
        z = z.detach().float()
        classes = target.dominant()
        contributions = z
        if head is not None:
            features, weight = head.factors(z) if hasattr(head, "factors") else (z, head.weight)
            contributions = classification_embeddings(features, weight.detach().float(), classes)
        mixed = target.is_mixed()
        if not mixed.any():
            self.counts[PLAIN].update(contributions, classes)
            return
        self.counts[PLAIN].update(contributions[~mixed], classes[~mixed])
        self.counts[MIXED].update(contributions[mixed], classes[mixed])

    def compute(self) -> dict[str, np.ndarray]:
        """Return one float64 ``(C,)`` a statistic, NaN where a class has no pictures (or fewer than m).

        ``n`` rows; ``number`` distinct top-K features, grows with n; ``rarefied_M`` the number expected in M rows;
        ``effective`` number of features by frequency of use; ``magnitude`` mean CE over the class's top-K. All over
        plain rows; the same with the suffix ``_mixed`` over mixed rows, where there are any. For a second and further
        K the names end in ``_topK``, for example ``number_top20``.
        """
        values = self._statistics(self.counts[PLAIN])
        if self.counts[MIXED].n.any():
            values |= {f"{name}_mixed": value for name, value in self._statistics(self.counts[MIXED]).items()}
        return values

    def _statistics(self, counts: TopKCounts) -> dict[str, np.ndarray]:
        every_incidence, n, mean = counts.arrays()
        some = n > 0
        values = {"n": n.astype(np.float64)}
        for k, incidence in zip(counts.ks, every_incidence, strict=True):
            suffix = "" if k == counts.ks[0] else f"_top{k}"
            values |= {
                f"number{suffix}": np.where(some, (incidence > 0).sum(1), np.nan),
                f"effective{suffix}": effective_number(incidence.astype(np.float64)),
                f"magnitude{suffix}": np.where(some, class_magnitude(np.nan_to_num(mean), k), np.nan),
            }
            values |= {f"rarefied_{m}{suffix}": rarefied_number(incidence, n, m) for m in self.sizes}
        return values

    def reset(self) -> None:
        """Forget everything counted."""
        for counts in self.counts.values():
            counts.reset()

    def merge(self, other: "TopKMonitor") -> None:
        """Add what another monitor counted over other rows (another rank, another batch)."""
        for kind, counts in self.counts.items():
            counts.merge(other.counts[kind])

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        return {kind: counts.state_dict() for kind, counts in self.counts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore counts from a checkpoint."""
        for kind, counts in self.counts.items():
            counts.load_state_dict(state[kind])

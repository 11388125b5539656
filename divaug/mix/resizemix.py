import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from divaug.base.contracts import Donors, Partner
from divaug.base.labels import MixedLabels
from divaug.config.registry import MIX
from divaug.mix._mix import BoxPlan, Mix, kept_of_boxes, mixed_rows, pair_labels


@MIX.register("resizemix", tune={"largest": (0.4, 0.9), "prob": (0.2, 1.0)})
class ResizeMix(Mix):
    """Shrink the whole partner into a box of the image, so that no label comes from a patch without its object.

    Args:
        smallest: Smallest side of the box as a share of the image's, in (0, 1].
        largest: Largest side of the box, in [smallest, 1].
        prob: Share of steps (of rows, with per_row) that are mixed, in [0, 1].
        per_row: Draw a box for each row instead of one for the batch.
        partner: Rule that draws partners: uniform (another row of the batch), minority, within_group, diverse or
            redundant (from the whole training cut).

    Reference:
        Qin et al., ResizeMix: Mixing Data with Preserved Object Information and True Labels, 2020, arXiv:2012.11101.

    Differs from the paper: prob is ours (0.5 as in CutMix; the paper states none); resizing is bilinear and
    antialiased.
    """

    strengths = ({"largest": 0.3}, {"largest": 0.8}, {"smallest": 0.7})

    def __init__(
        self,
        *,
        smallest: float = 0.1,
        largest: float = 0.8,
        prob: float = 0.5,
        per_row: bool = False,
        partner: Partner | str | None = "uniform",
    ) -> None:
        super().__init__(prob=prob, per_row=per_row, partner=partner)
        if not 0 < smallest <= largest <= 1:
            raise ValueError(f"0 < smallest <= largest <= 1 must hold, got {smallest} and {largest}")
        self.smallest, self.largest = smallest, largest

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> BoxPlan:
        """Draw partners and boxes, which lie entirely within the image."""
        partner, mixed = self.draw_pairs(len(labels), rng)
        share, edges = rng.uniform(self.smallest, self.largest, len(mixed)), []
        for length in size:
            span = np.maximum(1, (length * share).astype(np.int64))
            start = rng.integers(length - span + 1)
            edges += [start, start + span]
        return BoxPlan(partner, np.where(mixed[:, None], np.stack(edges, axis=1), 0), size)

    def apply(
        self, images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: BoxPlan, donors: Donors | None = None
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Resize and paste; the inputs are not modified."""
        plan.check(images)
        other, other_labels, index = self.pair(images, labels, plan.partner, donors)
        kept = kept_of_boxes(plan.boxes, (images.shape[2], images.shape[3]), len(labels))
        pasted = images.clone()
        sizes = np.stack([plan.boxes[:, 1] - plan.boxes[:, 0], plan.boxes[:, 3] - plan.boxes[:, 2]], axis=1)
        for height, width in np.unique(sizes, axis=0):
            if height == 0 or width == 0:
                continue
            alike = np.flatnonzero((sizes == (height, width)).all(1))
            rows = torch.arange(len(labels)) if len(sizes) == 1 else torch.from_numpy(alike)
            rows = rows.to(images.device, non_blocking=True)
            source = other[rows if index is None else index[rows]].float()
            small = torch.nn.functional.interpolate(source, (int(height), int(width)), mode="bilinear", antialias=True)
            small = small.to(images.dtype)
            if len(sizes) == 1:
                top, bottom, left, right = plan.boxes[0].tolist()
                pasted[:, :, top:bottom, left:right] = small
                continue
            for row, patch in zip(alike, small, strict=True):
                top, bottom, left, right = plan.boxes[row].tolist()
                pasted[row, :, top:bottom, left:right] = patch
        return pasted, pair_labels(labels, other_labels, kept, mixed_rows(plan.partner, kept, donors))

"""What mixes share: when and which rows are mixed with which partners; plans, blending, pasting and boxes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from divaug.base.contracts import Donors, Partner
from divaug.base.labels import MixedLabels


@dataclass(frozen=True)
class BlendPlan:
    """Partners and the share that each row keeps of its own image.

    Attributes:
        partner: Row blended into each row; None if partners come from the loader (donors).
        kept: float32 share in [0, 1]; 1 where nothing is mixed.
    """

    partner: Int[np.ndarray, "B"] | None
    kept: Float[np.ndarray, "B"]


@dataclass(frozen=True)
class BoxPlan:
    """Partners and a box for each row, ``(top, bottom, left, right)``, half open; empty where nothing is mixed.

    Attributes:
        partner: Row pasted into each row; None if partners come from the loader (donors).
        boxes: One box for the whole batch, or one per row.
        size: (H, W) of the images that the boxes were drawn for.
    """

    partner: Int[np.ndarray, "B"] | None
    boxes: Int[np.ndarray, "R 4"]
    size: tuple[int, int]

    def check(self, images: Float[Tensor, "B ch H W"]) -> None:
        """Refuse images of another size: boxes and label weights would be wrong.

        Raises:
            ValueError: The images have another height or width.
        """
        if (found := tuple(images.shape[2:])) != tuple(self.size):
            raise ValueError(f"the plan was sampled for images of {self.size} (H, W), but these have {found}")


class Mix:
    """Base of mixes that pair every row with one partner.

    Args:
        prob: Share of steps (or of rows, with ``per_row``) that are mixed, in [0, 1].
        per_row: Draw a share or box for each row instead of one for the batch.
        partner: Rule that draws partners from the whole training cut; None: another row of the batch.
    """

    def __init__(self, *, prob: float, per_row: bool, partner: Partner | str | None) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie in [0, 1], got {prob}")
        if isinstance(partner, str) and partner != "uniform":
            raise ValueError(f"partner must be a built rule here, as Minority(labels, class_counts), got {partner!r}")
        self.prob, self.per_row = prob, per_row
        self.rule = None if isinstance(partner, str) else partner

    def donors(self, labels: Int[Tensor, "B"], rng: np.random.Generator) -> Int[Tensor, "B"] | None:
        """Return which images of the whole training cut are mixed in, if a rule draws them."""
        return None if self.rule is None else self.rule.draw(labels, rng)

    def draw_pairs(self, rows: int, rng: np.random.Generator) -> tuple[Int[np.ndarray, "B"] | None, np.ndarray]:
        """Draw the partners in the batch, and which rows are mixed (or one value: whether the batch is)."""
        mixed = rng.random(rows if self.per_row else 1) < self.prob
        # also drawn when a rule draws partners, so that shares and boxes do not depend on the rule
        partner = rng.permutation(rows)
        return (partner if self.rule is None else None), mixed

    def pair(
        self,
        images: Float[Tensor, "B ch H W"],
        labels: Int[Tensor, "B"],
        partner: np.ndarray | None,
        donors: Donors | None,
    ) -> tuple[Float[Tensor, "N ch H W"], Int[Tensor, "B"], Int[Tensor, "B"] | None]:
        """Return the source of partners: images, the partners' labels, and which images (None: in order)."""
        if labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(f"one label per image is needed, got {len(images)} images, labels {tuple(labels.shape)}")
        if self.rule is None:
            assert partner is not None
            index = on(images.device, partner)
            return images, labels[index], index
        if donors is None:
            raise ValueError("this partner rule needs donors from the loader: draw them with donors()")
        return donors.images, donors.labels.to(images.device, non_blocking=True), None


class BlendMix(Mix):
    """Base of mixes that blend whole images by a share from Beta(alpha, alpha); see ``Mix``."""

    def __init__(self, *, alpha: float, prob: float, per_row: bool, partner: Partner | str | None) -> None:
        super().__init__(prob=prob, per_row=per_row, partner=partner)
        self.alpha = check_alpha(alpha)

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> BlendPlan:
        """Draw partners and the share kept."""
        partner, mixed = self.draw_pairs(len(labels), rng)
        kept = np.where(mixed, rng.beta(self.alpha, self.alpha, len(mixed)), 1.0).astype(np.float32)
        return BlendPlan(partner, np.broadcast_to(kept, len(labels)).copy())


class BoxMix(Mix):
    """Base of mixes that paste a box whose area comes from Beta(alpha, alpha); see ``Mix``."""

    def __init__(self, *, alpha: float, prob: float, per_row: bool, partner: Partner | str | None) -> None:
        super().__init__(prob=prob, per_row=per_row, partner=partner)
        self.alpha = check_alpha(alpha)

    def sample(self, labels: Int[Tensor, "B"], size: tuple[int, int], rng: np.random.Generator) -> BoxPlan:
        """Draw partners and boxes."""
        partner, mixed = self.draw_pairs(len(labels), rng)
        boxes = draw_boxes(size, rng.beta(self.alpha, self.alpha, len(mixed)), rng)
        return BoxPlan(partner, boxes * mixed[:, None], size)

    def apply(
        self, images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: BoxPlan, donors: Donors | None = None
    ) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
        """Paste the partners' boxes; the inputs are not modified."""
        plan.check(images)
        other, other_labels, index = self.pair(images, labels, plan.partner, donors)
        kept = kept_of_boxes(plan.boxes, (images.shape[2], images.shape[3]), len(labels))
        mixed = mixed_rows(plan.partner, kept, donors)
        return paste(images, other, index, plan.boxes), pair_labels(labels, other_labels, kept, mixed)


def blend(
    images: Float[Tensor, "B ch H W"],
    other: Float[Tensor, "B ch H W"],
    index: Int[Tensor, "B"] | None,
    kept: Float[np.ndarray, "B"],
) -> Float[Tensor, "B ch H W"]:
    """Return kept * image + (1 - kept) * partner, row by row."""
    share = float(kept[0])
    if not (kept == kept[0]).all():
        share = on(images.device, kept).to(images.dtype)[:, None, None, None]
    if index is None:  # the loader's donors must not be written to
        return torch.lerp(other, images, share)
    return rows_of(other, index).lerp_(images, share)


def mixed_rows(
    partner: Int[np.ndarray, "B"] | None, kept: Float[np.ndarray, "B"], donors: Donors | None = None
) -> Bool[np.ndarray, "B"]:
    """Return which rows contain a part, but not the whole, of an image other than their own.

    A second view of a row's own image does not count: the only image of a class is its own donor whenever that class
    is drawn.
    """
    if partner is None:
        assert donors is not None
        own = donors.own
    else:
        own = partner == np.arange(len(kept))
    return ~own & (kept > 0) & (kept < 1)


def pair_labels(
    labels: Int[Tensor, "B"], other: Int[Tensor, "B"], kept: Float[np.ndarray, "B"], mixed: Bool[np.ndarray, "B"]
) -> MixedLabels:
    """Label each row with weight ``kept``, its partner with the rest."""
    weights = np.empty((len(kept), 2), dtype=np.float32)
    weights[:, 0], weights[:, 1] = kept, 1 - kept
    ids = torch.stack([labels, other], dim=1)
    return MixedLabels(ids, on(ids.device, weights), on(ids.device, mixed))


def kept_of_boxes(boxes: Int[np.ndarray, "R 4"], size: tuple[int, int], rows: int) -> Float[np.ndarray, "B"]:
    """Return the exact share of pixels outside each row's box, float32."""
    kept = np.empty(rows, dtype=np.float32)
    kept[:] = 1 - (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / (size[0] * size[1])
    return kept


def rows_of(images: Float[Tensor, "N ch H W"], index: Int[Tensor, "B"]) -> Float[Tensor, "B ch H W"]:
    """Return rows of a batch, channels-last if it is; torch's own indexing is three times slower there."""
    if images.is_contiguous(memory_format=torch.channels_last):
        return images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return images.index_select(0, index)


def paste(
    images: Float[Tensor, "B ch H W"],
    other: Float[Tensor, "B ch H W"],
    index: Int[Tensor, "B"] | None,
    boxes: Int[np.ndarray, "R 4"],
) -> Float[Tensor, "B ch H W"]:
    """Paste the box of each row's partner into the row, at the same place."""
    if len(boxes) == 1:
        top, bottom, left, right = boxes[0].tolist()
        pasted = images.clone()
        patch = other.permute(0, 2, 3, 1)[:, top:bottom, left:right]  # indexing is faster with channels last
        pasted.permute(0, 2, 3, 1)[:, top:bottom, left:right] = patch if index is None else patch.index_select(0, index)
        return pasted
    if (
        images.device.type == "cpu" and images.dtype == torch.float32
    ):  # copying boxes one by one is faster than a mask here
        pasted = images.clone()
        target, source = pasted.permute(0, 2, 3, 1).numpy(), other.permute(0, 2, 3, 1).numpy()
        partners = range(len(boxes)) if index is None else index.tolist()
        for i, (j, (top, bottom, left, right)) in enumerate(zip(partners, boxes.tolist(), strict=True)):
            target[i, top:bottom, left:right] = source[j, top:bottom, left:right]
        return pasted
    inside = box_mask(boxes, (images.shape[2], images.shape[3]), images.device)
    return torch.where(inside, other if index is None else rows_of(other, index), images)


def box_mask(boxes: Int[np.ndarray, "B 4"], size: tuple[int, int], device: torch.device) -> Bool[Tensor, "B 1 H W"]:
    """Return where each row's box is."""
    top, bottom, left, right = (on(device, edge)[:, None] for edge in boxes.T.copy())
    y, x = (torch.arange(length, device=device)[None] for length in size)
    down, across = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return (down[:, :, None] & across[:, None, :])[:, None]


def draw_boxes(size: tuple[int, int], kept: Float[np.ndarray, "R"], rng: np.random.Generator) -> np.ndarray:
    """Draw ``(R, 4)`` boxes with sides sqrt(1 - kept) of the image's, centres uniform, clipped at the border."""
    boxes, share = np.empty((len(kept), 4), dtype=np.int64), np.sqrt(1 - kept)
    for axis, length in enumerate(size):
        span = (length * share).astype(np.int64)
        start = rng.integers(length, size=len(kept)) - span // 2
        np.maximum(start, 0, out=boxes[:, 2 * axis])
        np.minimum(start + span, length, out=boxes[:, 2 * axis + 1])
    return boxes


def on(device: torch.device, drawn: np.ndarray) -> Tensor:
    """Return what was drawn on the host as a tensor on a device, without waiting for it."""
    return torch.from_numpy(drawn).to(device, non_blocking=True)


def check_alpha(alpha: float) -> float:
    """Refuse a Beta parameter that is not positive."""
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, got {alpha}")
    return alpha

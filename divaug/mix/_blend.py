"""What mixes share: plans, blending, pasting and boxes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from divaug.labels import MixedLabels


@dataclass(frozen=True)
class BlendPlan:
    """Partners and the share of each row that its own picture keeps, drawn once for the batch.

    Attributes:
        partner: Row blended into each row.
        kept: Share in [0, 1] of the row's own picture.
    """

    partner: Int[np.ndarray, "B"]
    kept: float


@dataclass(frozen=True)
class BoxPlan:
    """Partners and one box for the batch, as ``(top, bottom, left, right)``, half open; empty where nothing is mixed.

    ``partner`` is None where the partners come from the loader (donors).
    """

    partner: Int[np.ndarray, "B"] | None
    box: tuple[int, int, int, int]


def draw_box(size: tuple[int, int], kept: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a box whose sides are sqrt(1 - kept) of the picture's, its centre uniform, clipped at the border."""
    spans = []
    for length in size:
        cut = int(length * np.sqrt(1 - kept))
        start = int(rng.integers(length)) - cut // 2
        spans += [max(start, 0), min(start + cut, length)]
    return spans[0], spans[1], spans[2], spans[3]


def blend(
    images: Float[Tensor, "B ch H W"], labels: Int[Tensor, "B"], plan: BlendPlan, kept: Float[Tensor, "B"]
) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
    """Blend every row with its partner by ``plan.kept``; label the row with weight ``kept``, its partner the rest."""
    partner = torch.from_numpy(plan.partner).to(images.device)
    blended = torch.lerp(images[partner], images, plan.kept)
    ids = torch.stack([labels, labels[partner]], dim=1)
    mixed = (partner != torch.arange(len(labels), device=images.device)) & (0 < plan.kept < 1)
    return blended, MixedLabels(ids, torch.stack([kept, 1 - kept], dim=1), mixed)


def paste(
    images: Float[Tensor, "B ch H W"],
    labels: Int[Tensor, "B"],
    donor_images: Float[Tensor, "B ch H W"],
    donor_labels: Int[Tensor, "B"],
    box: tuple[int, int, int, int],
    foreign: Bool[Tensor, "B"],
) -> tuple[Float[Tensor, "B ch H W"], MixedLabels]:
    """Paste the box of each row's donor into the row; label weights are the shares of pixels.

    ``foreign`` tells which donors are another picture than the row's own.
    """
    top, bottom, left, right = box
    pasted_images = images.clone()
    pasted_images[:, :, top:bottom, left:right] = donor_images[:, :, top:bottom, left:right]
    pasted = (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])
    ids = torch.stack([labels, donor_labels], dim=1)
    kept = torch.full((len(labels),), 1 - pasted, device=images.device)
    return pasted_images, MixedLabels(ids, torch.stack([kept, 1 - kept], dim=1), foreign & (0 < pasted < 1))


def check_alpha(alpha: float) -> float:
    """Refuse a Beta parameter that is not positive."""
    if alpha <= 0:
        raise ValueError(f"alpha must be > 0, got {alpha}")
    return alpha


def check_prob(prob: float) -> float:
    """Refuse a number that is no probability."""
    if not 0 <= prob <= 1:
        raise ValueError(f"prob must lie in [0, 1], got {prob}")
    return prob

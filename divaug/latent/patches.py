"""Fixed random patches: a common space that needs no training."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE, FILTERS = 3, 256
PATCHES = 2**19  # at once: they and the filters' responses stay below a gigabyte


class RandomPatches:
    """A frozen encoder without training: the rectified, averaged responses to 256 whitened patches of the images.

    Args:
        images: Images to take patches from, float ``(N, ch, H, W)``, with the channels of the images to encode.

    Reference:
        Coates, Ng and Lee, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS 2011.

    Differs from the paper: patches are not clustered; they are drawn, always the same ones.
    """

    def __init__(self, images: Tensor) -> None:
        several = max(1, PATCHES // (images.shape[2] * images.shape[3]))
        patches = F.unfold(images[:: -(-len(images) // several)], SIDE).permute(0, 2, 1).flatten(0, 1)
        self.mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - self.mean).T))
        self.whitening = vectors / (values.clamp_min(0) + 0.1 * values.mean()).sqrt()
        rng = np.random.default_rng([7, 0])  # always the same patches
        drawn = torch.from_numpy(rng.choice(len(patches), FILTERS, replace=len(patches) < FILTERS))
        filters = (patches[drawn] - self.mean) @ self.whitening
        self.filters = filters / filters.norm(dim=1, keepdim=True).clamp_min(1e-6)

    def __call__(self, images: Tensor) -> Tensor:
        """Return FE >= 0 of images, ``(B, 256)``."""
        several = max(1, PATCHES // (images.shape[2] * images.shape[3]))
        return torch.cat([self._encode(part) for part in images.split(several)])

    def _encode(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, SIDE).permute(0, 2, 1) - self.mean
        return torch.relu(patches @ self.whitening @ self.filters.T - 1.0).mean(1)

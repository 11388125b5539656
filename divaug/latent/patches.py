"""Random patches of the images as filters: common spaces that need no training."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
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

    Example:
        >>> import torch
        >>> from divaug.latent import RandomPatches
        >>> images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> RandomPatches(images)(images).shape
        torch.Size([20, 256])
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


class PatchCodes:
    """Codes of images from whitened random patches, pooled over quadrants: no labels and no training.

    Patches are normalised to mean 0 and (nearly) variance 1, whitened, and compared with ``filters`` patches drawn from
    the images; responses above a threshold, of either sign, are averaged over each quadrant.

    Args:
        images: Images to draw patches from, uint8 ``(N, H, W, ch)``, H and W >= 8.
        rng: Draws the patches.
        filters: Number of filters F.
        side: Side of the patches in pixels.
        stride: Pixels between patches.
        device: Where codes are computed.

    Reference:
        Coates, Ng and Lee, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS 2011.

    Differs from the paper: filters are patches, not cluster centres, and codes are soft thresholds of both signs.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import PatchCodes
        >>> images = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
        >>> PatchCodes(images, np.random.default_rng(1), filters=8)(images).shape
        (20, 64)
    """

    def __init__(
        self,
        images: UInt8[np.ndarray, "N H W ch"],
        rng: np.random.Generator,
        *,
        filters: int = 128,
        side: int = 6,
        stride: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        self.side, self.stride, self.device = side, stride, device
        several = images[rng.choice(len(images), min(len(images), 2000), replace=False)]
        patches = self._patches(several).flatten(0, 1)
        several = rng.choice(len(patches), min(len(patches), 100_000), replace=False)
        patches = patches[torch.from_numpy(several).to(device)]
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        whitening = vectors / (values.clamp_min(0) + 0.1).sqrt() @ vectors.T
        drawn = torch.from_numpy(rng.choice(len(patches), filters, replace=len(patches) < filters)).to(device)
        chosen = (patches[drawn] - mean) @ whitening
        self.filters = whitening @ (chosen / chosen.norm(dim=1, keepdim=True).clamp_min(1e-6)).T
        self.offset = mean @ self.filters

    def __call__(self, images: UInt8[np.ndarray, "N H W ch"]) -> Float[np.ndarray, "N E"]:
        """Return the codes, ``(N, 8 F)``, >= 0."""
        return np.concatenate([self._encode(images[start : start + 250]) for start in range(0, len(images), 250)])

    def _patches(self, images: np.ndarray) -> Tensor:
        planes = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float()
        patches = F.unfold(planes, self.side, stride=self.stride).permute(0, 2, 1)
        patches = patches - patches.mean(2, keepdim=True)
        return patches / (patches.var(2, keepdim=True, correction=0) + 10).sqrt()  # of 255: flat patches stay small

    def _encode(self, images: np.ndarray) -> np.ndarray:
        rows, columns = ((length - self.side) // self.stride + 1 for length in images.shape[1:3])
        response = (self._patches(images) @ self.filters - self.offset).unflatten(1, (rows, columns))
        above, below = slice(rows // 2), slice(rows // 2, None)
        left, right = slice(columns // 2), slice(columns // 2, None)
        pooled = []
        for sign in (1.0, -1.0):
            codes = torch.relu(sign * response - 0.5)
            pooled += [codes[:, y, x].mean((1, 2)) for y in (above, below) for x in (left, right)]
        return torch.cat(pooled, 1).cpu().numpy()

"""The common encoder: a frozen network, trained without labels, in whose space all runs are measured alike."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divaug.base.errors import ConfigError
from divaug.base.files import read_tensors, write_tensors
from divaug.models.network import build_network

SMALLEST = 256  # dimensions; with few, the top-K sets of all classes overlap whatever the images are
_FORMAT = 1


@dataclass(frozen=True)
class Encoder:
    """A trained backbone with a record of its training data.

    Attributes:
        backbone: Normalised images ``(B, ch, H, W)`` to FE ``(B, E)``; in evaluation mode, without gradients.
        manifest: Model, data, normalisation, image shape, and accuracy on its own task.
        seen: Digests of the training images, uint64, sorted.
    """

    backbone: Any
    manifest: dict[str, Any]
    seen: np.ndarray

    @property
    def dimensions(self) -> int:
        """E."""
        return self.backbone.feature_dim

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return next(self.backbone.parameters()).device

    def to(self, device: torch.device) -> "Encoder":
        """Move the backbone to a device; return the encoder."""
        self.backbone.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the FE of normalised images, in float32."""
        return self.backbone(images).float()

    def features(self, batches: Iterable[tuple[Tensor, Tensor]]) -> np.ndarray:
        """Return the FE of images in order, float32 ``(N, E)``."""
        return np.concatenate([self(images).cpu().numpy() for images, _ in batches])

    def fits(
        self, shape: Sequence[int], mean: Sequence[float], std: Sequence[float], digests: np.ndarray | None
    ) -> None:
        """Make sure that the encoder can judge runs trained on images of this kind.

        Args:
            shape: (H, W, ch) of the images.
            mean: Channel means of their normalisation.
            std: Channel standard deviations.
            digests: Digests of the training images (``divaug.data.halves.image_digests``); None accepts images
                that the encoder was trained on.

        Raises:
            ConfigError: Images of another shape or normalisation, or images that it has seen.
        """
        if list(shape) != self.manifest["image_shape"]:
            raise ConfigError(f"the encoder sees images of {self.manifest['image_shape']}, but these are {list(shape)}")
        if not np.allclose([*mean, *std], [*self.manifest["mean"], *self.manifest["std"]], atol=1e-4):
            raise ConfigError("the encoder was trained with another normalisation than that of these images")
        known = 0 if digests is None else int(np.isin(digests, self.seen).sum())
        if known and digests is not None:
            raise ConfigError(
                f"the encoder has been trained on {known} of these {len(digests)} training images: it would be "
                "no neutral judge of them. Train on the other half (--data-part a), or give --allow-overlap"
            )

    def save(self, stem: Path) -> Path:
        """Write ``STEM-HASH.pt``, its weights in half precision, where HASH is a hash of them; return the path."""
        state = {
            name: tensor.cpu().half() if tensor.is_floating_point() else tensor.cpu()
            for name, tensor in self.backbone.state_dict().items()
        }
        content = hashlib.sha256(b"".join(np.ascontiguousarray(t.numpy()).tobytes() for t in state.values()))
        path = stem.with_name(f"{stem.name}-{content.hexdigest()[:8]}.pt")
        seen = torch.from_numpy(self.seen.astype(np.uint64).view(np.int64).copy())
        write_tensors(path, {"format": _FORMAT, "manifest": self.manifest, "seen": seen, "backbone": state})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Encoder":
        """Read an encoder without running code from the file.

        Raises:
            ConfigError: The file is missing, damaged or not an encoder.
        """
        try:
            content = read_tensors(Path(path))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"encoder {path} cannot be read: {error}; python -m divaug.recipes.encoder makes one"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ConfigError(f"{path} is not an encoder; python -m divaug.recipes.encoder makes one")
        manifest = content["manifest"]
        height, width, channels = manifest["image_shape"]
        network = build_network(
            manifest["model"]["name"], 4, channels=channels, size=(height, width), seed=0,
            **{k: v for k, v in manifest["model"].items() if k != "name"},
        )  # fmt: skip
        backbone: Any = network.eval().backbone
        backbone.load_state_dict(content["backbone"])
        backbone.requires_grad_(requires_grad=False)
        return cls(backbone, manifest, content["seen"].numpy().view(np.uint64))

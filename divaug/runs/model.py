"""A finished run's network, ready to use: its classes, its preprocessing, its predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from divaug.base.errors import DataError, DivaugError
from divaug.config import user_files
from divaug.data.image_files import Geometry, decode, squared, upright_rgb
from divaug.models.network import Network
from divaug.runs.folder import RunFolder, find_runs
from divaug.train.build import build_model
from divaug.train.checkpoint import read_checkpoint
from divaug.train.evaluate import evaluating

BATCH = 256
Images = str | Path | np.ndarray | Image.Image | Sequence[Any]


@dataclass(frozen=True)
class Preprocess:
    """Turns an image into the network's input: resized, with channels as in training, normalised.

    Attributes:
        shape: (H, W, ch) of the training images.
        mean: Channel means on the 0-1 scale.
        std: Channel standard deviations on the 0-1 scale.
        resize: How images that are not square are resized: stretch, crop or pad.
        bits: Bits in use of 16-bit grey images.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "stretch"
    bits: int = 16

    def __call__(self, image: str | Path | np.ndarray | Image.Image) -> Float[Tensor, "ch H W"]:
        """Return one image normalised.

        Args:
            image: A file, a PIL image, or uint8 ``(H, W, ch)``.

        Raises:
            DataError: The file cannot be read, or the array is not an image.
        """
        pixels = torch.from_numpy(self._pixels(image).copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def _pixels(self, image: str | Path | np.ndarray | Image.Image) -> np.ndarray:
        height, width, channels = self.shape
        if isinstance(image, str | Path):
            if height != width:
                raise DataError(f"files are made square, but this network was trained on {height}x{width}; give arrays")
            array = decode(Path(image), Geometry(height, self.resize, self.bits))
        else:
            try:
                array = np.asarray(upright_rgb(image, self.bits) if isinstance(image, Image.Image) else image)
            except ValueError as error:
                raise DataError(f"cannot use the image: {error}") from error
        if array.ndim == 2:
            array = array[:, :, None]
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3):
            raise DataError(f"expected uint8 (H, W, 1 or 3), got {array.dtype} {array.shape}")
        if channels == 1 and array.shape[2] == 3:  # luminance as in ITU-R 601 and Pillow's mode L
            array = (array @ np.array([0.299, 0.587, 0.114]))[..., None].round().astype(np.uint8)
        elif channels == 3 and array.shape[2] == 1:
            array = np.repeat(array, 3, axis=2)
        if array.shape[:2] != (height, width):
            picture = Image.fromarray(array[:, :, 0] if channels == 1 else array)
            if height == width:
                array = np.asarray(squared(picture, Geometry(height, self.resize)))
            else:
                array = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        return array.reshape(height, width, channels)


class Model:
    """A trained network with its classes and preprocessing.

    Attributes:
        classes: Their names, in the order of the logits.
        transform: Turns an image (file, PIL, uint8 array) into the normalised tensor that the network expects.
        network: The torch module, in evaluation mode: ``features(images)`` gives FE, ``head(z)`` logits.
    """

    def __init__(self, network: Network, classes: Sequence[str], transform: Preprocess) -> None:
        self.network, self.classes, self.transform = network.eval(), tuple(classes), transform

    def features(self, images: Images) -> Float[np.ndarray, "N D"]:
        """Return the embeddings (FE) of images.

        Args:
            images: A file or several, a PIL image or several, uint8 ``(H, W, ch)`` or ``(N, H, W, ch)``.

        Raises:
            DataError: An image cannot be read.
        """
        return self._outputs(images)[0]

    def predict(self, images: Images) -> Any:
        """Return a DataFrame with one row per image: ``path`` (of files), ``label``, ``probability``, ``p_<class>``.

        Probabilities are the softmax of the raw logits: neither calibrated nor corrected for the class priors
        of the training cut.

        Args:
            images: As in ``features``.

        Raises:
            DataError: An image cannot be read.
        """
        import pandas as pd

        probabilities = torch.from_numpy(self._outputs(images)[1]).double().softmax(1).numpy()
        best = probabilities.argmax(1)
        table: Any = pd.DataFrame({
            "label": [self.classes[c] for c in best],
            "probability": probabilities.max(1),
            **{f"p_{name}": probabilities[:, c] for c, name in enumerate(self.classes)},
        })  # fmt: skip
        items = _items(images)
        if items and all(isinstance(item, str | Path) for item in items):
            table.insert(0, "path", [str(item) for item in items])
        return table

    def _outputs(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        items = _items(images)
        if not items:
            raise DataError("no image was given")
        device = next(self.network.parameters()).device
        features, logits = [], []
        with torch.no_grad(), evaluating(self.network):
            for start in range(0, len(items), BATCH):
                batch = torch.stack([self.transform(item) for item in items[start : start + BATCH]])
                z = self.network.features(batch.to(device)).float()
                features.append(z.cpu().numpy())
                logits.append(self.network.head(z).cpu().numpy())
        return np.concatenate(features), np.concatenate(logits)


def _items(images: Images) -> list[Any]:
    if isinstance(images, Tensor) or (isinstance(images, list | tuple) and any(isinstance(i, Tensor) for i in images)):
        raise DataError("tensors may be normalised or not, (ch, H, W) or not: give uint8 arrays (H, W, ch), or files")
    if isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]
    return list(images)


def load(source: str | Path | RunFolder, *, trust_imports: bool = False) -> Model:
    """Return the trained model of a run, on the CPU.

    Args:
        source: The run, or its folder (``runs/<experiment>/<method>/seed<k>``).
        trust_imports: Run the files that the folder names as its own components; needed for a network or head of one's
            own, and only for folders whose origin you trust.

    Raises:
        DivaugError: There is no run, it has not finished its first epoch, or it was made by another version.
    """
    if trust_imports:
        user_files.trust()
    folder = source if isinstance(source, RunFolder) else RunFolder(source)
    if not (folder.path / "config.toml").exists():
        below = [str(run.path) for run in find_runs([str(folder.path)])]
        raise DivaugError(f"{folder.path} is not a run, but runs lie below it: {', '.join(below[:5])}")
    config, manifest = folder.config, folder.manifest
    if not folder.checkpoint.exists():
        raise DivaugError(f"{folder.path} has no checkpoint: the run has not finished its first epoch")
    content = read_checkpoint(folder.checkpoint)
    if content["epoch"] == 0:  # stopped in the middle of the first
        raise DivaugError(f"{folder.path}: the run has not finished its first epoch")
    network = build_model(config, manifest)
    network.load_state_dict(content["model"])
    height, width, channels = manifest["image_shape"]
    transform = Preprocess(
        (height, width, channels), tuple(manifest["mean"]), tuple(manifest["std"]), config.resize, config.bits
    )
    return Model(network, manifest["class_names"], transform)

"""A data set dealt into pool, encoder's and held-out quarter, and label-free spaces to compare its images in."""

from collections.abc import Sequence

import numpy as np

from divaug.config.schema import Config
from divaug.data.halves import half, image_digests
from divaug.data.images import Part
from divaug.data.load import dataset_of
from divaug.data.loaders import Loader
from divaug.latent.patches import PatchCodes
from divaug.models.encoder import Encoder
from divaug.train.build import find_device

FITTED = 5000  # images that principal components and the probe are fitted to
CODES, PIXELS = 128, 64  # principal components of patch codes and of pixels
RIDGE = 1e-3  # of the probe, per image


class Source:
    """A data set, dealt: half a is the pool of every cut, quarter b1 is for encoders and probe, b2 is held out.

    Args:
        config: Names the data set.

    Attributes:
        dataset: It.
        identity: Its identity.
        device: Where features are computed.
        pool, b1, b2: Positions in its training part, ascending.
    """

    def __init__(self, config: Config) -> None:
        self.device = find_device(config.device)
        self.dataset = dataset_of(config, config.split_seed)
        self.identity = self.dataset.identity
        train = self.dataset.train
        self.pool, self.b1, self.b2 = (np.flatnonzero(half(train, which)) for which in ("a", "b1", "b2"))

    def pool_of(self, c: int) -> np.ndarray:
        """Return the positions of a class's pool, ascending."""
        return self.pool[self.dataset.train.labels[self.pool] == c]

    def held_out(self, which: str) -> Part:
        """Return the images that runs are measured on: the official test part, or quarter b2."""
        return self.dataset.test if which == "test" else self.dataset.train.take(self.b2)


class Spaces:
    """The spaces of a cut: a rotation network, whitened random patches drawn anew, and pixels.

    Principal components of the last two are fitted to quarter b1. Labels are used by the probe alone.

    Args:
        source: The data set, dealt.
        encoder: The rotation network.
        rng: Draws the patches.
        joint: Use all three spaces; otherwise the encoder's alone.

    Raises:
        ConfigError: The encoder is of other images, or has seen images of the pool.
    """

    def __init__(self, source: Source, encoder: Encoder, rng: np.random.Generator, *, joint: bool = True) -> None:
        from sklearn.decomposition import PCA

        dataset = source.dataset
        pool = dataset.train.take(source.pool)
        encoder.fits(pool.images.shape[1:], dataset.mean, dataset.std, image_digests(pool))
        self.source, self.encoder, self.joint = source, encoder, joint
        rows = np.sort(rng.permutation(source.b1)[:FITTED])
        fitted = dataset.train.take(rows)
        images = _images(fitted)
        self._codes = PatchCodes(images, rng, device=source.device)
        codes, pixels = self._codes(images), _pixels(images)
        self._mean, self._deviation = codes.mean(0), codes.std(0) + 1e-3

        def components(values: np.ndarray, wanted: int) -> PCA:
            return PCA(min(wanted, *values.shape), svd_solver="randomized", random_state=0).fit(values)

        self._of_codes, self._of_pixels = components(self._standard(codes), CODES), components(pixels, PIXELS)
        spaces = self(fitted)
        self._scales = [np.linalg.norm(space, axis=1).mean() for space in spaces]
        features, targets = self._stacked(spaces), np.eye(dataset.num_classes)[fitted.labels]
        penalty = RIDGE * len(features) * np.eye(features.shape[1])
        self._probe = np.linalg.solve(features.T @ features + penalty, features.T @ targets)

    def __call__(self, part: Part) -> list[np.ndarray]:
        """Return the features of a part's images in each space."""
        images = _images(part)
        learned = rotation_features(self.encoder, self.source, part)
        if not self.joint:
            return [learned]
        return [
            learned,
            self._of_codes.transform(self._standard(self._codes(images))),
            self._of_pixels.transform(_pixels(images)),
        ]

    def scores(self, spaces: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probe's score of every class, ``(N, C)``, from the features in each space."""
        return self._stacked(spaces) @ self._probe

    def _standard(self, codes: np.ndarray) -> np.ndarray:
        return (codes - self._mean) / self._deviation

    def _stacked(self, spaces: Sequence[np.ndarray]) -> np.ndarray:
        scaled = [space / scale for space, scale in zip(spaces, self._scales, strict=True)]
        return np.concatenate([*scaled, np.ones((len(spaces[0]), 1))], axis=1).astype(np.float64)


def rotation_features(encoder: Encoder, source: Source, part: Part) -> np.ndarray:
    """Return the features of a part's images in a rotation network's space."""
    loader = Loader(
        part, mean=source.dataset.mean, std=source.dataset.std, batch_size=500, device=encoder.device,
        streaming=not isinstance(part.images, np.ndarray),
    )  # fmt: skip
    return encoder.features(loader.in_order())


def margins(scores: np.ndarray, c: int) -> np.ndarray:
    """Return by how much the score of class c exceeds the best of the others, ``(N,)``."""
    return scores[:, c] - np.delete(scores, c, axis=1).max(1)


def _images(part: Part) -> np.ndarray:
    return np.ascontiguousarray(part.images[np.arange(len(part.labels))])


def _pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255

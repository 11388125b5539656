"""What a data set hands over: images, labels and what the data set declares about itself."""

from dataclasses import dataclass

import numpy as np

from divaug.data.image_files import ImageFiles


@dataclass(frozen=True)
class Part:
    """One part (train or test) of a data set.

    Attributes:
        images: uint8 ``(N, H, W, ch)``, ch 1 or 3: an array, or files decoded on access; both yield uint8
            ``(n, H, W, ch)`` for an index array.
        labels: int64 ``(N,)``.
        groups: Group of every image (patient, slide), or None.
    """

    images: np.ndarray | ImageFiles
    labels: np.ndarray
    groups: np.ndarray | None = None

    def take(self, keep: np.ndarray) -> "Part":
        """Return the part at a boolean mask or an index array."""
        images = self.images.take(keep) if isinstance(self.images, ImageFiles) else self.images[keep]
        return Part(images, self.labels[keep], None if self.groups is None else self.groups[keep])


@dataclass(frozen=True)
class Request:
    """The user's settings for where the data are and how files become images; see the keys of ``Config``."""

    data_root: str | None = None
    download: bool = True
    path: str | None = None
    test: str | None = None
    image_size: int = 32
    test_frac: float = 0.2
    split_seed: int = 0


@dataclass(frozen=True)
class Dataset:
    """A data set as its file in ``divaug/data/datasets`` builds it.

    Attributes:
        train: Training part, whole.
        test: Test part.
        class_names: One name per class.
        mean: Channel means on the 0-1 scale, for normalisation.
        std: Channel standard deviations on the 0-1 scale.
        pixel: Registered name of the default pixel augmentation.
        notes: Notes for the user (unusual images, classes absent from a part).
    """

    train: Part
    test: Part
    class_names: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel: str
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

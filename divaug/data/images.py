"""What a data set hands over: images, labels and what the data set declares about itself."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from divaug.data.image_files import ImageFiles
from divaug.data.split import first_identical, merged

CARVED = "test part carved off"  # how the note on it begins


@dataclass(frozen=True)
class Part:
    """One part (train or test) of a data set.

    Attributes:
        images: uint8 ``(N, H, W, ch)``, ch 1 or 3: an array, or files decoded on access; both yield uint8
            ``(n, H, W, ch)`` for an index array.
        labels: int64 ``(N,)``.
        groups: Group of every image (patient, slide), or None.
        contents: SHA-256 of every image file's bytes, ``(N,)`` of 32 bytes each, or None for images without files.
        paths: File of every image, ``(N,)`` strings, or None for images without files.
    """

    images: np.ndarray | ImageFiles
    labels: np.ndarray
    groups: np.ndarray | None = None
    contents: np.ndarray | None = None
    paths: np.ndarray | None = None

    def take(self, keep: np.ndarray) -> "Part":
        """Return the part at a boolean mask or an index array."""
        images = self.images.take(keep) if isinstance(self.images, ImageFiles) else self.images[keep]
        groups, contents, paths = (None if a is None else a[keep] for a in (self.groups, self.contents, self.paths))
        return Part(images, self.labels[keep], groups, contents, paths)

    @classmethod
    def joined(cls, parts: Sequence["Part"]) -> "Part":
        """Return parts one after another; all must be arrays, or all files of one geometry."""
        labels = np.concatenate([part.labels for part in parts])
        files = [part.images for part in parts if isinstance(part.images, ImageFiles)]
        arrays = [part.images for part in parts if isinstance(part.images, np.ndarray)]
        images = np.concatenate(arrays) if arrays else ImageFiles.joined(files)
        groups, contents, paths = (
            None if any(one is None for one in each) else np.concatenate([one for one in each if one is not None])
            for each in zip(*((part.groups, part.contents, part.paths) for part in parts), strict=True)
        )
        return cls(images, labels, groups, contents, paths)

    @property
    def units(self) -> np.ndarray | None:
        """What stands or falls together, a name for every image ``(N,)``; None where every image stands for itself.

        It is the image's group. Groups that share an identical image are one, and where images have no groups,
        identical images are: those are called "a + b + c", of more than three "a + b + 5 more".
        """
        if self.contents is None or (names := self.paths if self.groups is None else self.groups) is None:
            return self.groups
        whole = merged(names, first_identical(self.contents, len(names)))
        if whole is names:
            return self.groups
        called: dict[int, dict[str, None]] = {}
        for one, name in zip(whole.tolist(), names.tolist(), strict=True):
            called.setdefault(one, {})[str(name)] = None
        words = {one: " + ".join([*sorted(own)[:2], *_rest(sorted(own)[2:])]) for one, own in called.items()}
        return np.array([words[one] for one in whole.tolist()])

    @property
    def digests(self) -> np.ndarray:
        """SHA-256 of every image, ``(N,)`` of 32 bytes: of its file, else of its pixels."""
        if self.contents is not None:
            return self.contents
        return digests_of(len(self.labels), self._bytes)

    def _bytes(self, i: int) -> memoryview:
        return np.ascontiguousarray(self.images[np.array([i])]).data

    @property
    def sha256(self) -> str:
        """SHA-256 of labels and images, in order."""
        digest = hashlib.sha256(self.labels.astype("<i8").tobytes())
        digest.update(self.digests.tobytes())
        return digest.hexdigest()


def _rest(names: list[str]) -> list[str]:
    return names if len(names) < 2 else [f"{len(names)} more"]


def digests_of(n: int, content: Callable[[int], bytes | memoryview]) -> np.ndarray:
    """Return the SHA-256 of n contents, ``(n,)`` of 32 bytes each."""
    # Void, not bytes: NumPy strips zeros from the end of bytes.
    every = b"".join(hashlib.sha256(content(i)).digest() for i in range(n))
    return np.frombuffer(every, dtype="V32")


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
    resize: str = "stretch"
    bits: int = 16
    path_column: str = "path"
    label_column: str = "label"
    group_column: str = "group"
    split_column: str = "split"
    allow_leaks: bool = False
    audited: bool = False  # files that are named and not there are found, and left out
    dealt: bool = False  # into folds afterwards: a part that is carved off is put back, so it may lack what it likes


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
        carved: Whether the test part was carved off by divaug, not named by the data set.
        val: Validation part, where the data set names one.
    """

    train: Part
    test: Part
    class_names: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel: str
    notes: tuple[str, ...] = ()
    carved: bool = False
    val: Part | None = None

    @property
    def identity(self) -> str:
        """What the images and labels are, wherever they lie: 8 hex digits of a SHA-256.

        It covers class names, and the image, label, part and group of every image, in whatever order; a test part that
        divaug carved off is no part of its own, nor is a group of one image, which may be named by its path.
        """
        digest = hashlib.sha256("\0".join(self.class_names).encode("utf-8", "surrogateescape"))
        images = []
        parts = [(b"train", self.train), (b"train" if self.carved else b"test", self.test)]
        parts += [] if self.val is None else [(b"val", self.val)]
        sizes = Counter(group for _, part in parts if part.groups is not None for group in part.groups.tolist())
        for mark, part in parts:
            groups = [""] * len(part.labels) if part.groups is None else part.groups.tolist()
            of = [str(group).encode("utf-8", "surrogateescape") if sizes[group] > 1 else b"" for group in groups]
            labels = part.labels.astype("<i8")
            images += [mark + c.tobytes() + d.tobytes() + g for c, d, g in zip(labels, part.digests, of, strict=True)]
        for image in sorted(images):
            digest.update(image)
        return digest.hexdigest()[:8]

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

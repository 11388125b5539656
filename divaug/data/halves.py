"""Disjoint parts of the training images: half b for common encoders, half a for the runs that they judge."""

import hashlib

import numpy as np

from divaug.base.rng import stream
from divaug.data.images import Part

_CHUNK = 256


def image_digests(part: Part) -> np.ndarray:
    """Return a digest of every image's pixels, uint64 ``(N,)``: it identifies an image whatever its index."""
    digests = np.empty(len(part.labels), dtype=np.uint64)
    for start in range(0, len(digests), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(digests)))
        for i, image in zip(rows, part.images[rows], strict=True):
            content = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).digest()
            digests[i] = int.from_bytes(content, "little")
    return digests


def half(part: Part, which: str) -> np.ndarray:
    """Return which images belong to half "a" or "b", or to quarter "b1" or "b2" of half b, boolean ``(N,)``.

    Every class is split evenly. Identical images, and images of one group (patient, slide), are on the same side.
    The split is always the same: an encoder and the runs that it judges need not agree on a seed.
    """
    source = image_digests(part) if part.groups is None else part.groups
    first = _deal(source, part.labels, "halves")
    if which in ("a", "b"):
        return first if which == "a" else ~first
    second = np.zeros(len(first), dtype=bool)
    second[~first] = _deal(source[~first], part.labels[~first], "quarters") == (which == "b1")
    return second


def _deal(source: np.ndarray, labels: np.ndarray, name: str) -> np.ndarray:
    """Deal the images of each class into two hands of the same size, and return which are in the first, ``(N,)``."""
    _, first, unit, sizes = np.unique(source, return_index=True, return_inverse=True, return_counts=True)
    chosen: np.ndarray = np.zeros(len(sizes), dtype=bool)
    for c in np.unique(labels):
        members = np.flatnonzero(labels[first] == c)  # a unit counts as its first image's class
        dealt = [0, 0]
        for u in stream(0, f"{name}/{c}").permutation(members):
            side = 0 if dealt[0] <= dealt[1] else 1
            chosen[u] = side == 0
            dealt[side] += int(sizes[u])
    return chosen[unit]

"""Two disjoint halves of the training images: one for a common encoder, the other for the runs that it judges."""

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
    """Return which images belong to half "a" or "b", boolean ``(N,)``.

    Every class is split evenly. Identical images, and images of one group (patient, slide), are in the same half.
    The split is always the same: an encoder and the runs that it judges need not agree on a seed.
    """
    source = image_digests(part) if part.groups is None else part.groups
    _, first, unit, sizes = np.unique(source, return_index=True, return_inverse=True, return_counts=True)
    in_a: np.ndarray = np.zeros(len(sizes), dtype=bool)
    for c in np.unique(part.labels):
        members = np.flatnonzero(part.labels[first] == c)  # a unit counts as its first image's class
        dealt = [0, 0]
        for u in stream(0, f"halves/{c}").permutation(members):
            side = 0 if dealt[0] <= dealt[1] else 1
            in_a[u] = side == 0
            dealt[side] += int(sizes[u])
    return in_a[unit] if which == "a" else ~in_a[unit]

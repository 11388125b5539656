"""The bundle that every measurement reads: embeddings of images, and the head that classified them. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Int

from divaug.base.errors import DataError
from divaug.base.files import write_json
from divaug.base.groups import rank_groups

INSTANCE_GROUPS = ("member", "TP", "FN", "FP")
TOLERANCE = 1e-3  # of the largest logit: float32 sums over a few thousand features stay far below
_ARRAYS = ("features", "labels", "weight", "bias", "logits", "images")
_ROWS = 4096


@dataclass(frozen=True)
class Embeddings:
    """Embeddings (FE) of images, with what is needed to take them apart by class.

    In the space of a label-free encoder there is no head: ``weight``, ``bias`` and ``logits`` are None, and what the
    measurements call contributions are the FE themselves.

    Attributes:
        features: FE, ``(N, D)``.
        labels: Classes ``(N,)``, 0 to C - 1.
        class_names: C names.
        weight: Weights of the head ``(C, D)``, or None.
        bias: ``(C,)``, or None.
        logits: Final logits ``(N, C)``, or None.
        scale: logits = scale * (sum of the classification embedding) + bias.
        cosine: The head normalises FE and weights; classification embeddings are of the normalised factors.
        split: What the images are: "train", "test".
        class_counts: Training images per class, which decide the classes that are head, mid and tail; by default those
            of ``labels``.
        images: The image that each row is a view of, ``(N,)``; None where every row is an image of its own.
        origin: Where it comes from (model, data, commit): plain values for the manifest.

    Raises:
        DataError: Shapes that do not match, labels outside 0 to C - 1, or features that are not finite.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings
        >>> fe, weight = np.array([[3.0, 1.0], [2.0, 4.0], [0.0, 5.0]]), np.eye(2)
        >>> bundle = Embeddings(fe, np.array([0, 0, 1]), ("cat", "dog"), weight=weight, logits=fe @ weight.T)
        >>> bundle.rows(0, "FN").tolist()  # cats taken for dogs
        [1]
        >>> bundle.contributions(bundle.rows(0)).tolist()
        [[3.0, 0.0], [2.0, 0.0]]
    """

    features: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, "_"]
    class_names: tuple[str, ...]
    weight: Float[np.ndarray, "_ _"] | None = None
    bias: Float[np.ndarray, "_"] | None = None
    logits: Float[np.ndarray, "_ _"] | None = None
    scale: float = 1.0
    cosine: bool = False
    split: str = "train"
    class_counts: tuple[int, ...] = ()
    images: Int[np.ndarray, "_"] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, d, c = len(self.labels), self.features.shape[1], len(self.class_names)
        shapes = {"features": (n, d), "weight": (c, d), "bias": (c,), "logits": (n, c), "images": (n,)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise DataError(f"embeddings: {name} has shape {array.shape}, expected {shape} for {n} images")
        if (self.weight is None) != (self.logits is None):
            raise DataError("embeddings: a head has weight and logits, an encoder neither")
        if n and not (self.labels.min() >= 0 and self.labels.max() < c):
            raise DataError(f"embeddings: labels {self.labels.min()} to {self.labels.max()} for {c} classes")
        if self.class_counts and len(self.class_counts) != c:
            raise DataError(f"embeddings: {len(self.class_counts)} class counts for {c} classes")
        if not all(np.isfinite(self.features[i : i + _ROWS]).all() for i in range(0, n, _ROWS)):
            raise DataError("embeddings: features that are not finite; the network has diverged")

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def dimensions(self) -> int:
        """D."""
        return self.features.shape[1]

    @property
    def has_head(self) -> bool:
        """Whether there are class weights, and so classification embeddings and predictions."""
        return self.weight is not None

    @cached_property
    def nonnegative(self) -> bool:
        """Whether all features are >= 0, as after a ReLU; where not, "positive CE" mixes F < 0, W < 0 with F, W > 0."""
        return bool(all((self.features[i : i + _ROWS] >= 0).all() for i in range(0, len(self.labels), _ROWS)))

    @cached_property
    def counts(self) -> np.ndarray:
        """Images of each class, ``(C,)``."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @cached_property
    def terciles(self) -> list[str]:
        """The tercile of each class by size: "head", "mid" or "tail"."""
        names = [""] * self.num_classes
        for name, classes in rank_groups(np.array(self.class_counts or self.counts)).items():
            for c in classes:
                names[c] = name
        return names

    @cached_property
    def predictions(self) -> np.ndarray:
        """Predicted classes ``(N,)``, ties to the lower class.

        Raises:
            DataError: There is no head.
        """
        if self.logits is None:
            raise DataError("embeddings of a label-free encoder have no predictions: only group='member' exists")
        return self.logits.argmax(1)

    def rows(self, c: int, group: str = "member") -> Int[np.ndarray, "n"]:
        """Return the images of a class's instance group, ascending.

        Args:
            c: Class.
            group: ``member`` (label c), ``TP`` (label c, predicted c), ``FN`` (label c, predicted otherwise), ``FP``
                (predicted c, label otherwise). What the authors' code calls "FP" is FN here.
        """
        if group not in INSTANCE_GROUPS:
            raise ValueError(f"group must be one of {INSTANCE_GROUPS}, got {group!r}")
        if group == "FP":
            rows = self._predicted_as[c]
            return rows[self.labels[rows] != c]
        rows = self._labelled[c]
        if group == "member":
            return rows
        return rows[(self.predictions[rows] == c) == (group == "TP")]

    @cached_property
    def _labelled(self) -> list[np.ndarray]:
        return _rows_by_value(self.labels, self.num_classes)

    @cached_property
    def _predicted_as(self) -> list[np.ndarray]:
        return _rows_by_value(self.predictions, self.num_classes)

    def contributions(self, rows: Int[np.ndarray, "n"], ce_class: str | int = "true") -> Float[np.ndarray, "n D"]:
        """Return the classification embeddings (CE) of images in float64, or their FE where there is no head.

        Args:
            rows: Images.
            ce_class: The class whose weights are used: ``true`` (each image's label), ``pred`` (its prediction) or a
                class index.
        """
        if self.weight is None:
            return self.features[rows].astype(np.float64)
        features, weight = self.factors(rows)
        return features * weight[self.classes_of(rows, ce_class)]

    def factors(self, rows: Int[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "C D"]]:
        """Return, in float64, the two factors of a CE: FE and weights, both normalised for a cosine head."""
        features = self.features[rows].astype(np.float64)
        if self.cosine:
            features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return features, self._unit_weight

    def classes_of(self, rows: Int[np.ndarray, "n"], ce_class: str | int) -> Int[np.ndarray, "n"]:
        """Return the class whose weights each row takes; see ``contributions``."""
        if ce_class == "true":
            return self.labels[rows]
        if ce_class == "pred":
            return self.predictions[rows]
        if isinstance(ce_class, str) or not 0 <= ce_class < self.num_classes:
            raise ValueError(f"ce_class must be 'true', 'pred' or a class below {self.num_classes}, got {ce_class!r}")
        return np.full(len(rows), ce_class)

    @cached_property
    def _unit_weight(self) -> np.ndarray:
        assert self.weight is not None
        weight = self.weight.astype(np.float64)
        return weight / np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-12) if self.cosine else weight

    def rivals(self, rows: Int[np.ndarray, "n"], ce_class: str | int) -> Float[np.ndarray, "n"]:
        """Return the largest logit of any class other than the one whose CE are requested."""
        assert self.logits is not None
        logits = self.logits[rows].astype(np.float64)
        logits[np.arange(len(rows)), self.classes_of(rows, ce_class)] = -np.inf
        return logits.max(1)

    def take(self, keep: np.ndarray) -> "Embeddings":
        """Return the bundle of some rows, by a boolean mask or an index array; head, mid and tail do not change."""
        return replace(
            self,
            features=self.features[keep],
            labels=self.labels[keep],
            logits=None if self.logits is None else self.logits[keep],
            images=None if self.images is None else self.images[keep],
            class_counts=self.class_counts or tuple(self.counts.tolist()),
        )

    def verify(self) -> "Embeddings":
        """Recompute every logit from its classification embedding, and return the bundle.

        Raises:
            DataError: They differ: the features are not what the head saw, or the head is not linear.
        """
        if self.logits is None:
            return self
        bias = 0.0 if self.bias is None else self.bias.astype(np.float64)
        for start in range(0, len(self.labels), _ROWS):
            logits = self.logits[start : start + _ROWS]
            features, weight = self.factors(np.arange(start, start + len(logits)))
            error = np.abs(self.scale * (features @ weight.T) + bias - logits).max(initial=0)
            if not error <= TOLERANCE * max(1.0, float(np.abs(logits).max(initial=0))):
                raise DataError(
                    f"the logits are not scale * (FE x weight) + bias (off by {error:.3g}): the layer named is not "
                    "the last one, or something stands between it and the logits"
                )
        return self

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (npz) and the manifest next to it (json), the npz last; return the npz's path."""
        path = Path(path).with_suffix(".npz")
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        plain = {
            "class_names": list(self.class_names), "scale": self.scale, "cosine": self.cosine, "split": self.split,
            "class_counts": list(self.class_counts), "shapes": {name: list(a.shape) for name, a in arrays.items()},
            "origin": dict(self.origin),
        }  # fmt: skip
        write_json(path.with_suffix(".json"), plain)
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Embeddings":
        """Read what ``save`` wrote, without unpickling anything, and verify it.

        Raises:
            DataError: The files are missing or damaged, or do not belong together.
        """
        path = Path(path).with_suffix(".npz")
        try:
            plain = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise DataError(f"embeddings {path} cannot be read: {error}") from error
        if {name: list(a.shape) for name, a in arrays.items()} != plain["shapes"]:
            raise DataError(f"embeddings {path} and its manifest do not belong together")
        return cls(
            **arrays, class_names=tuple(plain["class_names"]), scale=plain["scale"], cosine=plain["cosine"],
            split=plain["split"], class_counts=tuple(plain["class_counts"]), origin=plain["origin"],
        ).verify()  # fmt: skip


def _rows_by_value(values: np.ndarray, size: int) -> list[np.ndarray]:
    order = np.argsort(values, kind="stable")
    return np.split(order, np.searchsorted(values[order], np.arange(1, size)))

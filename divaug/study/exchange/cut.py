"""One cut of a design: which classes are manipulated, and which images each arm trains them on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from divaug.base.errors import DataError
from divaug.base.rng import stream
from divaug.latent.diversity import density_and_coverage, unbiased_vendi
from divaug.models.encoder import Encoder
from divaug.study.exchange.plan import Arm, Design
from divaug.study.exchange.spaces import Source, Spaces, margins, rotation_features
from divaug.study.select import Kinds, half_of_kinds, herding, joint_rows, matched_cells, spread

CELLS = 5  # quantiles of each matched measure
COVERED = 400  # held-out images of a class that coverage is measured on
MATCHED = ("radius", "margin", "brightness", "contrast")


@dataclass(frozen=True)
class ClassPool:
    """What is known of one manipulated class's pool.

    Attributes:
        rows: Positions in the training part, ``(N,)``.
        joint: Features in the joint space, ``(N, E)``.
        outside: Centred features in the space of an encoder that the selection does not use, ``(N, E2)``.
        kinds: Its kinds.
        kept: The half of the kinds that narrow arms are drawn from.
        held_out: Joint features of images of quarter b2.
        values: Each image's radius, margin, brightness and contrast, ``(N,)`` each.
    """

    rows: np.ndarray
    joint: np.ndarray
    outside: np.ndarray
    kinds: Kinds
    kept: np.ndarray
    held_out: np.ndarray
    values: Mapping[str, np.ndarray]


class CutImages:
    """The images of one cut, for all arms.

    Args:
        source: The data set, dealt.
        design: The design.
        cut: Number of the cut.
        encoders: Rotation networks. The pair of cuts 2j, 2j + 1 uses number j, counted round, and measures in the next.

    Attributes:
        which: The rotation network used.
        manipulated: Classes that the arms differ in, ascending.
        part: The images that runs are measured on.
    """

    def __init__(self, source: Source, design: Design, cut: int, encoders: list[Encoder]) -> None:
        self.source, self.design, self.cut = source, design, cut
        joint = design.encoder == "joint"
        self.which = cut // 2 % len(encoders) if joint else int(design.encoder)
        self.spaces = Spaces(source, encoders[self.which], self._stream("patches"), joint=joint)
        self.manipulated = manipulated(source.dataset.num_classes, design, cut)
        outside = encoders[(self.which + 1) % len(encoders)]
        self.part = source.held_out(design.outcome)
        self.pools, self.kind_of = {}, np.full(len(self.part.labels), -1)
        for c in self.manipulated:
            self.pools[c], self.kind_of[self.part.labels == c] = self._class_pool(c, outside)
        self.heads = {
            c: self._stream(f"heads/{c}").choice(source.pool_of(c), design.heads, replace=False)
            for c in set(range(source.dataset.num_classes)) - set(self.manipulated)
        }

    def _stream(self, name: str) -> np.random.Generator:
        return stream(self.cut, f"{self.design.dataset}/{name}")

    def _class_pool(self, c: int, outside: Encoder) -> tuple[ClassPool, np.ndarray]:
        """Return a class's pool, and the kinds of its images in the outcome's part."""
        train, design = self.source.dataset.train, self.design
        rows = self.source.pool_of(c)
        pool = train.take(rows)
        spaces = self.spaces(pool)
        means = [space.mean(0) for space in spaces]
        joint = joint_rows(spaces, means)
        kinds = Kinds(joint, design.kinds, self._stream(f"kinds/{design.kinds}/{design.encoder}/{c}"))
        kept = half_of_kinds(kinds.of, design.kinds, self._stream(f"kept/{design.kinds}/{design.encoder}/{c}"))
        distances = [np.linalg.norm(space - mean, axis=1) for space, mean in zip(spaces, means, strict=True)]
        pixels = np.asarray(pool.images[np.arange(len(rows))], dtype=np.float32).reshape(len(rows), -1)
        values = {
            "radius": np.mean([distance / distance.mean() for distance in distances], axis=0),
            "margin": margins(self.spaces.scores(spaces), c),
            "brightness": pixels.mean(1),
            "contrast": pixels.std(1),
        }
        seen = rotation_features(outside, self.source, pool)
        b2 = self.source.b2[train.labels[self.source.b2] == c][:COVERED]
        held_out = joint_rows(self.spaces(train.take(b2)), means)
        found = self.part.take(self.part.labels == c)
        kind_of = kinds.nearest(joint_rows(self.spaces(found), means))
        return ClassPool(rows, joint, seen - seen.mean(0), kinds, kept, held_out, values), kind_of

    def digest(self) -> str:
        """Return a hash of the images that narrow arms may draw: another machine may find other kinds."""
        content = hashlib.sha256()
        for c in sorted(self.pools):
            pool = self.pools[c]
            content.update(pool.rows[np.isin(pool.kinds.of, pool.kept)].astype("<i8").tobytes())
        return content.hexdigest()[:8]

    def chosen(self, arm: Arm) -> dict[int, np.ndarray]:
        """Return, for every manipulated class, the positions within its pool of an arm's different images.

        What the images are drawn by does not depend on copies, method or augmentation; arms of all kinds do not depend
        on the number of kinds either.

        Raises:
            DataError: A pool has too few images.
        """
        n = round(self.design.n * arm.number)
        out = {}
        for c, pool in self.pools.items():
            key = f"{arm.number}/{arm.breadth}/{arm.dose}/{'x'.join(arm.match)}"
            if arm.breadth < 1:
                key += f"/{self.design.kinds}/{self.design.encoder}"
            rng = self._stream(f"arm/{key}/{c}")
            allowed = np.arange(len(pool.rows))
            if arm.breadth < 1:
                allowed = np.flatnonzero(np.isin(pool.kinds.of, pool.kept))
            if len(allowed) < n:
                name = self.source.dataset.class_names[c]
                raise DataError(f"cut {self.cut}: class {name} has {len(allowed)} images to draw {n} from")
            if arm.dose:
                out[c] = self._dosed(pool, arm, n, rng)
            else:
                out[c] = rng.choice(allowed, n, replace=False)
        return out

    def _dosed(self, pool: ClassPool, arm: Arm, n: int, rng: np.random.Generator) -> np.ndarray:
        cells = matched_cells([pool.values[name] for name in arm.match], CELLS)
        if not arm.match:
            cells = np.zeros(len(pool.rows), dtype=np.int64)
        if arm.dose == "natural":
            from divaug.study.select import stratified

            return stratified(cells, n, rng)
        if arm.dose == "herding":
            return herding(pool.joint, cells, n, rng)
        return spread(pool.joint, cells, n, 1 if arm.dose == "high" else -1, rng)

    def training(self, arm: Arm) -> np.ndarray:
        """Return the positions in the training part that an arm trains on, ascending, copies included."""
        chosen = self.chosen(arm)
        tails = [np.repeat(self.pools[c].rows[rows], arm.copies) for c, rows in chosen.items()]
        return np.sort(np.concatenate([*tails, *self.heads.values()]))

    def measures(self, arm: Arm) -> dict[str, float]:
        """Return what an arm's images are like, as means over the manipulated classes.

        ``vendi_u`` and ``coverage`` in the joint space, ``vendi_outside`` in an encoder that the selection did not use,
        ``radius`` (1 in the pool) and ``margin``; ``shift`` of the mean in the joint space; ``smd_max``: the largest
        standardised mean difference from the pool among radius, margin, brightness and contrast, each the mean over the
        classes, whose differences may cancel; ``mass``: share of the pool in the half of the kinds.
        """
        rows = []
        for c, chosen in self.chosen(arm).items():
            pool = self.pools[c]
            found = {f"smd_{name}": _difference(pool.values[name], chosen) for name in MATCHED}
            found |= {name: float(pool.values[name][chosen].mean()) for name in ("radius", "margin")}
            rows.append({
                **found,
                "vendi_u": unbiased_vendi(pool.joint[chosen]),
                "vendi_outside": unbiased_vendi(pool.outside[chosen]),
                "coverage": density_and_coverage(pool.held_out, pool.joint[chosen])["coverage"],
                "shift": float(np.linalg.norm(pool.joint[chosen].mean(0))),
                "mass": float(np.isin(pool.kinds.of, pool.kept).mean()),
            })  # fmt: skip
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return means | {"smd_max": max(abs(means[f"smd_{name}"]) for name in MATCHED)}

    def kept(self) -> np.ndarray:
        """Return for each image of the outcome's part whether its kind is kept by narrow arms, NaN elsewhere, ``(M,)``."""  # noqa: E501
        out = np.full(len(self.part.labels), np.nan)
        for c, pool in self.pools.items():
            rows = self.part.labels == c
            out[rows] = np.isin(self.kind_of[rows], pool.kept)
        return out


def manipulated(num_classes: int, design: Design, cut: int) -> list[int]:
    """Return the classes that a design manipulates in a cut, ascending: all, or a random half.

    Long-tailed cuts 2j and 2j + 1 take the two halves of one permutation.
    """
    if design.name == "balanced":
        return list(range(num_classes))
    order = stream(cut // 2, "manipulated").permutation(num_classes)
    middle = num_classes // 2
    return sorted((order[:middle] if cut % 2 == 0 else order[middle:]).tolist())


def _difference(values: np.ndarray, chosen: np.ndarray) -> float:
    """Return the standardised mean difference of the chosen images from the pool."""
    deviation = values.std()
    return float((values[chosen].mean() - values.mean()) / deviation) if deviation > 0 else 0.0

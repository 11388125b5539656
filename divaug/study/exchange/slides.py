"""Breadth without any encoder: images of one class from few or many groups (slides, patients, cameras)."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import DataError
from divaug.base.rng import stream
from divaug.config.schema import Config
from divaug.data.images import Request
from divaug.data.load import dataset_of
from divaug.data.roots import candidates
from divaug.study.exchange.plan import Arm, Design


def table_of(design: Design) -> Path:
    """Return the CSV of a design's images, below one of the data roots.

    Raises:
        DataError: It is below none of them.
    """
    tried = [root / design.table for root in candidates(Request())]
    for file in tried:
        if file.is_file():
            return file
    raise DataError(f"{design.table} not found; looked in: {', '.join(map(str, tried))}")


class SlideSource:
    """The images of a table in one grouped split: no group is on both sides.

    Attributes:
        dataset: The data set.
        identity: Its identity.
    """

    def __init__(self, config: Config, cut: int) -> None:
        self.dataset = dataset_of(config, cut)
        self.identity = self.dataset.identity


class SlideImages:
    """The images of one cut: a grouped split, and which of the class's groups each arm draws from.

    ``kinds`` of the design is the number of groups of the broad arms; the narrow arms draw from half of these. Images
    are drawn uniformly from all images of the class in the chosen groups, which are chosen at random.

    Args:
        source: The split.
        design: The design; ``manipulated`` names the class.
        cut: Number of the cut.

    Raises:
        DataError: There is no such class, or it has too few groups in the training part.
    """

    which = None

    def __init__(self, source: SlideSource, design: Design, cut: int) -> None:
        self.source, self.design, self.cut = source, design, cut
        names = source.dataset.class_names
        if design.manipulated not in names:
            raise DataError(f"{design.label}: there is no class {design.manipulated!r}; there are {', '.join(names)}")
        c = names.index(design.manipulated)
        self.manipulated, self.part = [c], source.dataset.test
        train = source.dataset.train
        if train.groups is None:
            raise DataError(f"{design.table} has no groups: this design draws from few or many of them")
        self.rows = np.flatnonzero(train.labels == c)
        self.others = np.flatnonzero(train.labels != c)
        self.groups = train.groups[self.rows]
        every = np.unique(self.groups)
        if len(every) < design.kinds:
            raise DataError(f"cut {cut}: {design.manipulated} has {len(every)} training groups, {design.kinds} needed")
        self.broad = self._stream("groups").permutation(every)[: design.kinds]
        self.narrow = self.broad[: design.kinds // 2]

    def _stream(self, name: str) -> np.random.Generator:
        return stream(self.cut, f"{self.design.dataset}/{name}")

    def digest(self) -> str:
        """Return a hash of the groups drawn from."""
        return hashlib.sha256("\0".join(self.broad.tolist()).encode()).hexdigest()[:8]

    def training(self, arm: Arm) -> np.ndarray:
        """Return the positions in the training part that an arm trains on, ascending, copies included.

        Raises:
            DataError: The groups have too few images.
        """
        n, groups = round(self.design.n * arm.number), self.narrow if arm.breadth < 1 else self.broad
        allowed = self.rows[np.isin(self.groups, groups)]
        if len(allowed) < n:
            raise DataError(f"cut {self.cut}: {len(groups)} groups have {len(allowed)} images to draw {n} from")
        drawn = self._stream(f"arm/{arm.number}/{arm.breadth}").choice(allowed, n, replace=False)
        return np.sort(np.concatenate([np.repeat(drawn, arm.copies), self.others]))

    def measures(self, arm: Arm) -> dict[str, Any]:
        """Return nothing: there is no space to measure in."""
        return {}

    def kept(self) -> np.ndarray:
        """Return NaN for every image: no test image is of a training group."""
        return np.full(len(self.part.labels), np.nan)

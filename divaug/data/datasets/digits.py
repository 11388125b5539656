import importlib.util
from pathlib import Path

import numpy as np

from divaug.config.registry import DATASETS
from divaug.data.images import Dataset, Part, Request


@DATASETS.register("digits")
def digits(request: Request) -> Dataset:
    """Digits: scikit-learn's 1,797 real handwritten digits, 8x8 grey; embedded, no download.

    Every second image of each class, in file order, is for testing: a fixed stratified half.

    Reference:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    table = _table()
    images = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)[..., None]  # from 16 grey levels
    labels = table[:, -1].astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        test[np.flatnonzero(labels == c)[1::2]] = True
    names = [str(digit) for digit in range(10)]
    train, held = Part(images[~test], labels[~test]), Part(images[test], labels[test])
    return Dataset(train, held, names, mean=(0.305,), std=(0.376,), pixel="shift")


def _table() -> np.ndarray:
    """Return scikit-learn's file, 64 pixels and a label in each row, without the import of scikit-learn (3 s)."""
    found = importlib.util.find_spec("sklearn")
    assert found is not None and found.origin is not None  # it is installed with divaug
    return np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")

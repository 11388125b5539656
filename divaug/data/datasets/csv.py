from pathlib import Path

import numpy as np

from divaug.base.errors import DataError
from divaug.config.registry import DATASETS
from divaug.data.datasets._own import assemble, stated_test
from divaug.data.datasets._rows import rows_of_csv
from divaug.data.images import Dataset, Request


@DATASETS.register("csv")
def csv(request: Request) -> Dataset:
    """Your own images: a CSV with the columns path, label and optionally split, group, source (--path).

    Paths are relative to the CSV. Test images come from --test, else from the column ``split``; else they are carved
    off, stratified and in whole groups.
    """
    if request.path is None:
        raise DataError("csv needs a path: the CSV file")
    file = Path(request.path)
    rows = rows_of_csv(file)
    test = stated_test(request)
    return assemble(request, rows, test, np.array([row.split == "test" for row in rows]))

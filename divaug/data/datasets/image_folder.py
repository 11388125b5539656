from pathlib import Path

import numpy as np

from divaug.base.errors import DataError
from divaug.config.registry import DATASETS
from divaug.data.datasets._own import assemble, stated_test
from divaug.data.datasets._rows import rows_of_folder
from divaug.data.images import Dataset, Request


@DATASETS.register("image_folder")
def image_folder(request: Request) -> Dataset:
    """Your own images: a folder of class folders (--path); test images from --test, or carved off, stratified."""
    if request.path is None:
        raise DataError("image_folder needs a path: the folder of class folders")
    rows = rows_of_folder(Path(request.path))
    test = stated_test(request)
    return assemble(request, rows, test, np.zeros(len(rows), dtype=bool))

from pathlib import Path

import numpy as np

from divaug.data.datasets._own import Row, assemble, stated_test
from divaug.data.images import Dataset, Request
from divaug.data.pictures import list_pictures
from divaug.errors import DataError
from divaug.registry import DATASETS


def rows_of_folder(folder: Path) -> list[Row]:
    """Return a row a picture of a folder of class folders; the folder's name is the label.

    Raises:
        DataError: No such folder, no class folder in it, or a class folder without pictures.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise DataError(f"{folder} must hold a folder for each class, at least two; found {len(classes)}")
    rows = []
    for place in classes:
        pictures = list_pictures(place)
        if not pictures:
            raise DataError(f"class folder {place} holds no picture; remove it or fill it")
        rows += [Row(path, place.name) for path in pictures]
    return rows


@DATASETS.register("image_folder")
def image_folder(request: Request) -> Dataset:
    """Own pictures: a folder of class folders (--path); test pictures from --test or carved off, stratified."""
    if request.path is None:
        raise DataError("image_folder needs a path: the folder of class folders")
    rows = rows_of_folder(Path(request.path))
    test = stated_test(request)
    return assemble(request, rows, test, np.zeros(len(rows), dtype=bool))

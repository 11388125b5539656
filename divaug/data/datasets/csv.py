from divaug.config.registry import DATASETS
from divaug.data.datasets._own import own_images
from divaug.data.images import Dataset, Request


@DATASETS.register("csv")
def csv(request: Request) -> Dataset:
    """Your own images: a CSV with path, label and optionally split, group, source, or a list file (--path).

    A list file (.txt, .lst, .list) has a path and a label on each line. Paths are relative to --data-root, or to the
    file. Test images come from --test, else from the column ``split``; else they are carved off, stratified and in
    whole groups.
    """
    return own_images(request)

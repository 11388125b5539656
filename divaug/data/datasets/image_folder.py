from divaug.config.registry import DATASETS
from divaug.data.datasets._own import own_images
from divaug.data.images import Dataset, Request


@DATASETS.register("image_folder")
def image_folder(request: Request) -> Dataset:
    """Your own images: a folder of class folders, or train/, val/ and test/ with class folders in each (--path).

    Test images come from the folder test/ or from --test; else they are carved off, stratified.
    """
    return own_images(request)

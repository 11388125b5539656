"""Reading the python version of CIFAR-10 and CIFAR-100, checked against the official MD5s."""

import pickle
from pathlib import Path

import numpy as np

from divaug.data.images import Dataset, Part, Request
from divaug.data.roots import locate, read_checked

# The constants used in the literature; LDAM-DRW and its descendants use CIFAR-10's for CIFAR-100 too.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def read_cifar(
    request: Request,
    *,
    name: str,
    folder: str,
    archive: tuple[str, str],
    train: dict[str, str],
    test: dict[str, str],
    meta: tuple[str, str],
    label_key: str,
    names_key: str,
) -> Dataset:
    """Read one CIFAR.

    Args:
        request: Where to look.
        name: Name for messages.
        folder: Folder below the data root.
        archive: URL and MD5 of the official archive.
        train: Training files and their MD5s.
        test: Test files and their MD5s.
        meta: The file of class names and its MD5.
        label_key: Key of the labels in each file.
        names_key: Key of the class names.
    """

    def fetch(root: Path) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(archive[0], str(root), md5=archive[1])

    place = locate(name, folder, [*train, *test, meta[0]], request, fetch)

    def part(files: dict[str, str]) -> Part:
        images, labels = [], []
        for file, md5 in files.items():
            # Unpickling is safe here: the bytes are the official ones.
            table = pickle.loads(read_checked(place / file, md5), encoding="latin1")
            images.append(np.asarray(table["data"], dtype=np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(np.asarray(table[label_key], dtype=np.int64))
        return Part(np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels))

    class_names = pickle.loads(read_checked(place / meta[0], meta[1]), encoding="latin1")[names_key]
    return Dataset(part(train), part(test), list(class_names), MEAN, STD, pixel="crop_flip")

"""Reading MNIST-type ``.gz`` files directly, checked against their official MD5s."""

import gzip
from pathlib import Path

import numpy as np

from divaug.data.images import Dataset, Part, Request
from divaug.data.roots import locate, read_checked

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def read_mnist(
    request: Request,
    *,
    name: str,
    folder: str,
    mirror: str,
    md5s: tuple[str, str, str, str],
    class_names: list[str],
    mean: float,
    std: float,
) -> Dataset:
    """Read one data set of MNIST's format.

    Args:
        request: Where to look.
        name: Name for messages.
        folder: Folder below the data root.
        mirror: URL of the folder of the four files.
        md5s: MD5s of training images, training labels, test images and test labels.
        class_names: One name per class.
        mean: Channel mean, 0-1 scale.
        std: Channel standard deviation, 0-1 scale.
    """
    files = dict(zip(FILES, md5s, strict=True))

    def fetch(root: Path) -> None:
        from torchvision.datasets.utils import download_url

        for file, md5 in files.items():
            download_url(mirror + file, str(root / folder), md5=md5)

    place = locate(name, folder, [*files], request, fetch)
    train_x, train_y, test_x, test_y = (
        np.frombuffer(gzip.decompress(read_checked(place / file, md5)), np.uint8) for file, md5 in files.items()
    )

    def part(images: np.ndarray, labels: np.ndarray) -> Part:
        # The idx format: 16 bytes of header before the images, 8 before the labels.
        return Part(images[16:].reshape(-1, 28, 28, 1).copy(), labels[8:].astype(np.int64))

    return Dataset(part(train_x, train_y), part(test_x, test_y), class_names, (mean,), (std,), pixel="shift")

from divaug.config.registry import DATASETS
from divaug.data.datasets._cifar import read_cifar
from divaug.data.images import Dataset, Request


@DATASETS.register("cifar100")
def cifar100(request: Request) -> Dataset:
    """CIFAR-100: 50,000 training and 10,000 test images, 32x32 colour, 100 classes.

    Reference:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    return read_cifar(
        request,
        name="CIFAR-100",
        folder="cifar-100-python",
        archive=(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
        ),
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
        label_key="fine_labels",
        names_key="fine_label_names",
    )

from divaug.config.registry import DATASETS
from divaug.data.datasets._cifar import read_cifar
from divaug.data.images import Dataset, Request


@DATASETS.register("cifar10")
def cifar10(request: Request) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images, 32x32 colour, 10 classes.

    Reference:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    return read_cifar(
        request,
        name="CIFAR-10",
        folder="cifar-10-batches-py",
        archive=(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
        ),
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        label_key="labels",
        names_key="label_names",
    )

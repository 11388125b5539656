from divaug.config.registry import DATASETS
from divaug.data.datasets._mnist import read_mnist
from divaug.data.images import Dataset, Request


@DATASETS.register("fashion_mnist")
def fashion_mnist(request: Request) -> Dataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28 grey.

    Reference:
        Xiao et al., Fashion-MNIST, 2017, arXiv:1708.07747.
    """
    return read_mnist(
        request,
        name="Fashion-MNIST",
        folder="FashionMNIST/raw",
        mirror="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        md5s=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        class_names=[
            "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
        ],
        mean=0.2860,
        std=0.3530,
    )  # fmt: skip

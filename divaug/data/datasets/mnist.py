from divaug.config.registry import DATASETS
from divaug.data.datasets._mnist import read_mnist
from divaug.data.images import Dataset, Request


@DATASETS.register("mnist")
def mnist(request: Request) -> Dataset:
    """MNIST: 60,000 training and 10,000 test digits, 28x28 grey.

    Reference:
        LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    return read_mnist(
        request,
        name="MNIST",
        folder="MNIST/raw",
        mirror="https://ossci-datasets.s3.amazonaws.com/mnist/",
        md5s=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        class_names=[str(digit) for digit in range(10)],
        mean=0.1307,
        std=0.3081,
    )

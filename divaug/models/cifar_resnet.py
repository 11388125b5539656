"""The residual networks of the CIFAR literature: resnet20, 32, 44 and 56."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from divaug.config.registry import MODELS


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and an option-A shortcut: stride and zero channels, no weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.more_channels = outputs - inputs

    def forward(self, x: Float[Tensor, "B i H W"]) -> Float[Tensor, "B o H2 W2"]:
        """Return relu(convolutions + shortcut)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.more_channels or self.stride != 1:
            before = self.more_channels // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, before, self.more_channels - before))
        return F.relu(out + x, inplace=True)


class CifarResNet(nn.Module):
    """Three stages of ``blocks`` basic blocks of 16, 32 and 64 channels, then a mean over the image.

    Embeddings are >= 0. Works for any image size from 4x4.

    Args:
        blocks: Basic blocks per stage; the depth is 6 * blocks + 2.
        channels: Channels of the images.

    Reference:
        He et al., Deep Residual Learning, CVPR 2016, arXiv:1512.03385, section 4.2; Kaiming-normal weights.

    Differs from the paper: nothing.
    """

    feature_dim = 64

    def __init__(self, blocks: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        layers, inputs = [], 16
        for stage, outputs in enumerate((16, 32, 64)):
            for block in range(blocks):
                layers.append(BasicBlock(inputs, outputs, stride=2 if stage and not block else 1))
                inputs = outputs
        self.stages = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Float[Tensor, "B ch H W"]) -> Float[Tensor, "B 64"]:
        """Return the embeddings."""
        return self.stages(F.relu(self.bn1(self.conv1(images)), inplace=True)).mean((2, 3))


@MODELS.register("resnet20")
def resnet20(channels: int = 3, size: tuple[int, int] = (32, 32)) -> CifarResNet:
    """ResNet-20 of the CIFAR literature."""
    return CifarResNet(3, channels)


@MODELS.register("resnet32")
def resnet32(channels: int = 3, size: tuple[int, int] = (32, 32)) -> CifarResNet:
    """ResNet-32 of the CIFAR literature: 464,154 parameters with a linear head for ten classes."""
    return CifarResNet(5, channels)


@MODELS.register("resnet44")
def resnet44(channels: int = 3, size: tuple[int, int] = (32, 32)) -> CifarResNet:
    """ResNet-44 of the CIFAR literature."""
    return CifarResNet(7, channels)


@MODELS.register("resnet56")
def resnet56(channels: int = 3, size: tuple[int, int] = (32, 32)) -> CifarResNet:
    """ResNet-56 of the CIFAR literature."""
    return CifarResNet(9, channels)

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from divaug.config.registry import MODELS


@MODELS.register("agarap_cnn")
class AgarapCNN(nn.Module):
    """Two 5x5 convolutions, each with max pooling, and a hidden layer of 1,024 with dropout: CNN-SVM's network.

    3,274,634 parameters on 28x28 grey images with a linear head for ten classes. There is no normalisation layer.
    Embeddings are >= 0.

    Args:
        channels: Channels of the images.
        size: (H, W) of the images, at least 4x4.
        dropout: Probability that an embedding is set to 0 in training, in [0, 1).

    Raises:
        ValueError: The images are too small, or ``dropout`` is out of range.

    Reference:
        Agarap, An Architecture Combining Convolutional Neural Network and Support Vector Machine for Image
        Classification, 2017, arXiv:1712.03541.

    Differs from the paper: pools have stride 2, as in the author's code (the text says 1); the head starts as every
    head of divaug does, where his has weights of deviation 0.1, as all other layers have here too.
    """

    feature_dim = 1024

    def __init__(self, channels: int = 3, size: tuple[int, int] = (32, 32), *, dropout: float = 0.5) -> None:
        super().__init__()
        if min(size) < 4:
            raise ValueError(f"images of {size[0]}x{size[1]} are too small: at least 4x4 are needed")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.dropout = dropout
        self.conv1 = nn.Conv2d(channels, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, 5, padding=2)
        height, width = ((side + 3) // 4 for side in size)  # halved twice, rounded up
        self.hidden = nn.Linear(64 * height * width, self.feature_dim)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(parameter, 0.1)
            else:
                nn.init.trunc_normal_(parameter, std=0.1, a=-0.2, b=0.2)

    def forward(self, images: Float[Tensor, "B ch H W"]) -> Float[Tensor, "B 1024"]:
        """Return the embeddings."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2, ceil_mode=True)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2, ceil_mode=True)
        return F.dropout(F.relu(self.hidden(torch.flatten(x, 1))), self.dropout, self.training)

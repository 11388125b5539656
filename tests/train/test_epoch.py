"""What the loop counts as right, where embeddings are mixed after the images are drawn."""

import numpy as np
import torch
from torch import nn

from divaug.base.contracts import complete
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.feature.manifold_mixup import ManifoldMixup
from divaug.losses.ce import CrossEntropy
from divaug.mix.none import NoMix
from divaug.models.network import Network
from divaug.pixel.none import NoPixel
from divaug.samplers.uniform import Uniform
from divaug.train.epoch import train_epoch
from divaug.train.step import Stage, Totals

LABELS = torch.arange(40) % 4


class FirstRow(nn.Module):
    """Embeddings are the first row of pixels, so the prediction is the strongest pixel."""

    feature_dim = 4

    def forward(self, images):
        return images[:, 0, 0]


class Through(nn.Linear):
    """A head that passes embeddings on."""

    scale = 1.0

    def __init__(self):
        super().__init__(4, 4, bias=False)
        nn.init.eye_(self.weight)

    def factors(self, z):
        return z, self.weight


def test_accuracy_compares_with_the_labels_that_the_logits_are_of():
    images = np.broadcast_to(255 * np.eye(4, dtype=np.uint8)[LABELS][:, None, :, None], (40, 4, 4, 1)).copy()
    loader = Loader(Part(images, LABELS.numpy()), mean=(0.0,), std=(1.0,), batch_size=40, device=torch.device("cpu"))
    model, right = Network(FirstRow(), Through()), 0
    sampler = Uniform(LABELS, torch.tensor([10, 10, 10, 10]))
    stage = Stage(0, sampler, complete(NoPixel()), complete(NoMix()), ManifoldMixup(), CrossEntropy(), None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for epoch in range(5):
        totals = Totals.empty(4, 40)
        assert train_epoch(
            model,
            loader,
            stage,
            optimizer,
            totals=totals,
            learning_rate=lambda step: 0.0,
            seed=0,
            epoch=epoch,
            epochs=5,
        )
        right += int(totals.correct)
    # A blend of two one-hot images is strongest where its larger label weight is, whatever the share drawn.
    assert right == 200

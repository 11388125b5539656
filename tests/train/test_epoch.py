"""The training step on a network small enough to be followed by hand."""

import numpy as np
import torch
from torch import nn

from divaug.data.loaders import Batch
from divaug.feature.manifold_mixup import ManifoldMixup
from divaug.mix.none import NoMix
from divaug.train.epoch import train_epoch
from divaug.train.step import Stage, Totals

LABELS = torch.arange(40) % 4


class Picture(nn.Module):
    """Embeddings are the first row of pixels; the head passes them on, so the prediction is the strongest pixel."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.head.weight)

    def features(self, images):
        return images[:, 0, 0]


def test_accuracy_compares_with_the_labels_that_the_logits_are_of():
    images = nn.functional.one_hot(LABELS, 4).float()[:, None, None].expand(40, 1, 4, 4)
    batch = Batch(images, LABELS, np.arange(40), torch.zeros(40, dtype=torch.bool))
    model, totals = Picture(), Totals.empty(4, 40)
    stage = Stage(0, None, None, NoMix(), ManifoldMixup(), nn.CrossEntropyLoss(reduction="none"), None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for epoch in range(5):
        assert train_epoch(
            model, [batch], stage, optimizer, totals=totals, learning_rate=lambda step: 0.0, seed=0, epoch=epoch,
            device=torch.device("cpu"),
        )  # fmt: skip
        totals.steps = 0
    # A blend of two one-hot pictures is strongest where its larger label weight is, whatever the share drawn.
    assert totals.correct == totals.rows == 200

"""An epoch: what counts as right where embeddings are mixed after the images are drawn, and the early size."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from divaug import configure, run
from divaug.base.contracts import complete
from divaug.base.errors import ConfigError
from divaug.config.tables import protocol_fingerprint
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.feature.manifold_mixup import ManifoldMixup
from divaug.losses.ce import CrossEntropy
from divaug.mix.none import NoMix
from divaug.models.network import Network
from divaug.models.whitened_cnn import WhitenedCNN
from divaug.pixel.none import NoPixel
from divaug.samplers.uniform import Uniform
from divaug.train.build import size_at
from divaug.train.epoch import shrunk, train_epoch
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


def test_shrinking_is_pillows():
    """Pillow's bilinear resize of float images weighs every pixel that a new one covers."""
    images = torch.from_numpy(np.random.default_rng(0).random((2, 3, 12, 12), dtype=np.float32))
    found = shrunk(images, 7)
    assert found.shape == (2, 3, 7, 7)
    for image, small in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        wanted = np.asarray(Image.fromarray(image.numpy()).resize((7, 7), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(small.numpy(), wanted, atol=1e-5)
    assert shrunk(images, None) is images


def test_the_first_epochs_are_trained_at_the_early_size(monkeypatch, tmp_path):
    """Two fifths of five epochs are two; every evaluation, also of those epochs, is at full size."""
    seen, forward = [], WhitenedCNN.forward

    def watched(self, images):
        seen.append((self.training, images.shape[-1]))
        return forward(self, images)

    monkeypatch.setattr(WhitenedCNN, "forward", watched)
    config = configure(
        dataset="digits", epochs=5, early_size=6, early_frac=0.4, max_per_class=24, eval_every=1, monitor=False,
        tracking="off", progress="none", device="cpu", output_dir=str(tmp_path), threads=1, **{"model.widths": [8]},
    )  # fmt: skip
    run(config)
    trained = [size for training, size in seen if training]
    epoch = len(trained) // 5
    assert trained == [6] * (2 * epoch) + [8] * (3 * epoch)
    tried = seen.index((False, 6))  # before training: whether the network takes that size at all
    assert not any(training for training, _ in seen[:tried])
    assert {size for training, size in seen[tried + 1 :] if not training} == {8}


@pytest.mark.parametrize(("frac", "epochs", "early"), [(0.5, 4, 2), (0.95, 10, 9), (0.75, 2, 1), (0.9, 1, 0)])
def test_the_last_epoch_is_never_at_the_early_size(frac, epochs, early):
    config = configure(dataset="digits", early_size=6, early_frac=frac, epochs=epochs)
    assert [size_at(config, epoch) for epoch in range(epochs)] == [6] * early + [None] * (epochs - early)


def test_an_early_size_for_no_epoch_is_refused(tmp_path):
    config = configure(
        dataset="digits", early_size=6, early_frac=0.1, epochs=4, tracking="off", progress="none",
        output_dir=str(tmp_path), **{"model.widths": [8]},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"early-size has no effect: early-frac 0.1 of 4 epochs is none"):
        run(config)


def test_images_that_are_not_square_keep_their_shape():
    assert shrunk(torch.zeros(1, 3, 32, 64), 16).shape == (1, 3, 16, 32)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"early_size": 8}, "early-size must be less than the images' 8 pixels"),
        ({"early_size": 3}, "early-size must be >= 4"),
        ({"early_size": 6, "early_frac": 1.0}, r"early-frac must lie in \(0, 1\)"),
        ({"early_size": 4, "model": "agarap_cnn"}, "early-size 4: AgarapCNN fails on images of this size"),
    ],
)
def test_an_early_size_that_makes_no_sense_is_refused(keys, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        run(configure(dataset="digits", tracking="off", progress="none", output_dir=str(tmp_path), **keys))


def test_an_early_size_is_another_protocol():
    plain, early = (configure(dataset="digits", early_size=size) for size in (None, 6))
    assert protocol_fingerprint(plain) != protocol_fingerprint(early)
    assert protocol_fingerprint(early) != protocol_fingerprint(
        configure(dataset="digits", early_size=6, early_frac=0.7)
    )

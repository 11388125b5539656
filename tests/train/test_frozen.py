"""Part of a network is trained: what changes, what does not, and features extracted once against images every step."""

import numpy as np
import pytest
import torch
from torch import nn

from divaug.base.errors import ConfigError
from divaug.config.layers import configure
from divaug.data.load import load_data
from divaug.models.encoder import Encoder
from divaug.models.network import build_network
from divaug.runs.folder import RunFolder
from divaug.runs.load import load
from divaug.runs.loop import run
from divaug.train.build import build, resolve
from divaug.train.frozen import freeze, with_features

SMALL = {
    "dataset": "digits", "tracking": "off", "progress": "none", "monitor": False, "model": "whitened_cnn",
    "model.widths": [8, 16], "epochs": 2, "profile": "custom", "counts": [20] * 10, "device": "cpu", "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network's weights in a file, as torch writes them."""
    path = tmp_path_factory.mktemp("weights") / "digits.pt"
    network = build_network("whitened_cnn", 10, channels=1, size=(8, 8), seed=5, widths=[8, 16])
    network.backbone.initialize([torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))])
    torch.save(network.state_dict(), path)
    return path


def configured(weights, tmp_path, **more):
    return configure(**{**SMALL, "weights": str(weights), "output_dir": str(tmp_path), **more})


def test_a_resnets_last_blocks_are_counted_from_its_end():
    network, images = build_network("timm:resnet10t", 4, size=(32, 32), seed=0), torch.rand(2, 3, 32, 32)
    for train, trained in {
        "head": set(),
        "last:0": set(),
        "last:1": {"layer4"},
        "last:2": {"layer4", "layer3"},
        "full": {"layer4", "layer3", "layer2", "layer1", "conv1", "bn1"},
    }.items():
        network.requires_grad_(True)
        freeze(network, train, images)
        names = {name.split(".")[2] for name, p in network.named_parameters() if p.requires_grad and "backbone" in name}
        assert names == trained, train
        assert all(p.requires_grad for p in network.head.parameters())
    with pytest.raises(ConfigError, match="the backbone has 7 blocks; give --train full"):
        freeze(network, "last:8", images)


def test_a_transformers_last_layer_comes_with_the_norm_after_it():
    network = build_network("timm:vit_tiny_patch16_224", 4, size=(32, 32), seed=0, depth=3, img_size=32)
    freeze(network, "last:1", torch.rand(2, 3, 32, 32))
    names = {".".join(n.split(".")[2:4]) for n, p in network.named_parameters() if p.requires_grad and "model." in n}
    assert {"blocks.2", "norm.weight", "norm.bias"} == names


def test_frozen_normalisation_keeps_its_statistics_and_the_rest_does_not():
    network = build_network("timm:resnet10t", 4, size=(32, 32), seed=0)
    freeze(network, "last:1", torch.rand(2, 3, 32, 32))
    before = {name: value.clone() for name, value in network.named_buffers()}
    network.train()(torch.randn(8, 3, 32, 32))
    moved = {name.split(".")[2] for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {"layer4"}


def test_weights_that_were_frozen_stay_frozen_in_a_trained_block():
    network = build_network("whitened_cnn", 3, seed=0, widths=[8, 16])
    freeze(network, "last:3", torch.rand(2, 3, 32, 32))
    assert not network.backbone.whitening.weight.requires_grad


@pytest.mark.parametrize("train", ["head", "last:0", "last:1"])
def test_a_run_changes_what_is_trained_and_nothing_else(weights, tmp_path, train):
    folder = run(configured(weights, tmp_path, train=train))
    network, before = load(folder).network, torch.load(weights)
    state = network.state_dict()
    changed = {name for name in before if not torch.equal(state[name], before[name])}
    blocks = {name.removeprefix("backbone.").split(".")[0] for name in changed if name.startswith("backbone.")}
    assert "head.weight" in changed
    assert blocks == (set() if train != "last:1" else {"groups"})
    if train == "last:1":
        assert {name.split(".")[2] for name in changed if "groups" in name} == {"1"}


def test_a_head_on_features_is_the_head_on_unaugmented_images(weights, tmp_path):
    """The same draws, batches and steps: the logits agree to rounding."""
    outputs = {}
    for train in ("head", "last:0"):
        folder = run(configured(weights, tmp_path / train, train=train, pixel="none"))
        outputs[train] = np.load(folder.path / "test_outputs.npz")["logits"]
    np.testing.assert_allclose(outputs["head"], outputs["last:0"], atol=2e-4)
    assert np.ptp(outputs["head"]) > 0.3


def test_a_head_stopped_and_continued_is_the_head_in_one_go(weights, tmp_path, monkeypatch):
    from divaug.base.errors import Interrupted
    from divaug.runs import loop

    whole = run(configured(weights, tmp_path / "a", train="head"))
    stopped = []

    class StopAfterOneEpoch(loop.StopRequest):
        def __call__(self):
            stopped.append(1)
            return len(stopped) > 6  # in the middle of the second epoch

    config = configured(weights, tmp_path / "b", train="head")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopRequest", StopAfterOneEpoch)
        with pytest.raises(Interrupted):
            run(config)
    np.testing.assert_array_equal(
        *(np.load(folder.path / "test_outputs.npz")["logits"] for folder in (whole, run(config)))
    )


def test_a_head_alone_refuses_what_changes_images(weights, tmp_path):
    for more, named in (({"method": "strong_tail"}, "pixel 'by_class'"), ({"mix": "cutmix"}, "mix 'cutmix'")):
        with pytest.raises(ConfigError, match=f"{named} would have no effect.*--train last:0"):
            run(configured(weights, tmp_path, train="head", **more))
    with pytest.raises(ConfigError, match=r"needs --weights FILE or --model.pretrained true"):
        configure(dataset="digits", train="head")
    with pytest.raises(ConfigError, match="must be full, head or last:N"):
        configured(weights, tmp_path, train="tail")


def test_features_are_of_the_part_they_are_handed_out_for(weights, tmp_path):
    config = configured(weights, tmp_path, train="head")
    data = load_data(config)
    config = resolve(config, data)
    images, features = build(config, data), with_features(build(config, data), config)
    network: nn.Module = images.model.eval()
    for part in ("train", "test"):
        pairs = zip(getattr(images, part).in_order(70), getattr(features, part).in_order(70), strict=True)
        for (pictures, labels), (found, same) in pairs:
            torch.testing.assert_close(found.flatten(1), network.features(pictures), atol=1e-5, rtol=1e-4)
            assert torch.equal(labels, same)
    rows = np.array([7, 3, 150, 3])
    stage = features.stages[0]
    batch = next(features.train.epoch(rows, pixel=stage.pixel, mix=stage.mix, seed=0, epoch=0))
    torch.testing.assert_close(batch.images, torch.cat([f for f, _ in features.train.in_order()])[rows])
    assert batch.labels.tolist() == data.train.labels[rows].tolist() and batch.indices.tolist() == rows.tolist()
    assert not batch.changed.any()


def test_blocks_are_counted_in_the_order_in_which_they_work():
    """Defined last, called first: the last block is the one that is called last."""

    class Twisted(nn.Module):
        feature_dim = 6

        def __init__(self):
            super().__init__()
            self.late, self.early = nn.Linear(5, 6), nn.Linear(4, 5)

        def forward(self, images):
            return self.late(self.early(images.flatten(1)))

        def initialize(self, batches):
            pass

    from divaug.models.heads import LinearHead
    from divaug.models.network import Network

    network = Network(Twisted(), LinearHead(6, 3))
    freeze(network, "last:1", torch.rand(2, 1, 2, 2))
    assert {n for n, p in network.named_parameters() if p.requires_grad and "backbone" in n} == {
        "backbone.late.weight", "backbone.late.bias",
    }  # fmt: skip


def test_replayed_views_and_the_untrained_network_are_those_of_the_run(weights, tmp_path):
    from divaug.runs.embed import encode_views, untrained

    config = configured(weights, tmp_path, train="head")
    folder = run(config)
    data = load_data(folder.config)
    network = untrained(folder.config, data)
    saved = torch.load(weights)
    assert all(torch.equal(value, saved[f"backbone.{name}"]) for name, value in network.backbone.state_dict().items())

    pixels = nn.Flatten()
    pixels.register_parameter("place", nn.Parameter(torch.zeros(1)))  # whose device is the encoder's
    seen = encode_views(Encoder(pixels, {}, np.empty(0)), folder.config, data, [0])
    rows = data.train.images[seen.images].astype(np.float32).reshape(len(seen.images), -1) / 255
    plain = (rows - data.dataset.mean[0]) / data.dataset.std[0]
    np.testing.assert_allclose(seen.features, plain, atol=1e-4)


def test_weights_are_known_by_content_wherever_they_lie(weights, tmp_path):
    """A run is continued with the same weights in another place, and refused with others in the same place."""
    import shutil

    from divaug.config.layers import read_toml
    from divaug.config.layers import resolve as resolve_layers

    own = tmp_path / "mine.pt"
    shutil.copy(weights, own)
    config = configured(own, tmp_path, train="head")
    folder = run(config)
    moved = tmp_path / "elsewhere.pt"
    own.rename(moved)
    table = read_toml(folder.path / "config.toml")
    again = resolve_layers(config=table, flags={"weights": str(moved)})
    assert run(again, RunFolder(folder.path)).path == folder.path
    assert folder.config.weights_digest == again.weights_digest == config.weights_digest
    state = torch.load(moved)
    state["backbone.whitening.weight"] += 1
    torch.save(state, own)
    with pytest.raises(ConfigError, match="weights_digest"):
        run(resolve_layers(config=table), RunFolder(folder.path))

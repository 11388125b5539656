"""Pretrained weights from a file: what fits is loaded whole, and what does not is named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from divaug.base.errors import ConfigError
from divaug.config.layers import FINE_TUNING, configure
from divaug.config.tables import protocol_fingerprint
from divaug.config.weights import input_beside
from divaug.models.network import build_network
from divaug.models.weights import load_backbone


@pytest.fixture
def timms(tmp_path):
    """Weights as timm's own files have them, classifier included."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = timm.create_model("resnet10t", num_classes=7)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.", "module.backbone.model."])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_every_tensor_of_the_backbone_is_the_files(timms, tmp_path, prefix, suffix):
    path = tmp_path / f"w.{suffix}"
    state = {prefix + name: tensor for name, tensor in timms.items()}
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    backbone = build_network("timm:resnet10t", 4, size=(64, 64), seed=0).backbone
    assert sorted(load_backbone(backbone, path)) == sorted([f"{prefix}fc.weight", f"{prefix}fc.bias"])
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, timms[name.removeprefix("model.")]), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("layer2.0.conv1.weight"), "they lack: model.layer2.0.conv1.weight"),
        (lambda state: state.update({"neck.weight": torch.ones(1)}), "they have no place for: neck.weight"),
        (
            lambda state: state.update({"conv1.0.weight": torch.ones(24, 1, 3, 3)}),
            r"other shapes: model.conv1.0.weight \(24, 1, 3, 3\) instead of \(24, 3, 3, 3\)",
        ),
        (lambda state: state.update({"fc.weight": 3}), "no table of tensors"),
    ],
)
def test_what_does_not_fit_is_named(timms, tmp_path, change, said):
    change(timms)
    torch.save(timms, tmp_path / "w.pth")
    backbone = build_network("timm:resnet10t", 4, size=(64, 64), seed=0).backbone
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(ConfigError, match=said):
        load_backbone(backbone, tmp_path / "w.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_a_damaged_file_is_an_error_of_the_user(tmp_path):
    backbone = build_network("resnet20", 4, seed=0).backbone
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(ConfigError, match=r"cannot be read \(.*other content could run code"):
            load_backbone(backbone, tmp_path / name)


def test_a_model_folders_weights_say_what_images_they_saw(tmp_path):
    transform = {"shape": [48, 48, 3], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (tmp_path / "model.json").write_text(json.dumps({"transform": transform}))
    assert input_beside(tmp_path / "weights.safetensors") == (48, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    (tmp_path / "model.json").write_text("{}")
    assert input_beside(tmp_path / "weights.safetensors") is None
    assert input_beside(tmp_path / "nowhere" / "weights.safetensors") is None


def test_rates_are_for_new_weights_for_trained_ones_and_as_given(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"")
    own = {"dataset": "csv", "path": "cells.csv", "model": "timm:resnet18"}
    pretrained = {**own, "weights": str(tmp_path / "w.pt")}
    assert (configure(**own).optim.name, configure(**own).lr, configure(**own).preset) == ("adamw", 1e-3, "timm")
    assert configure(**pretrained).lr == configure(**pretrained, train="last:2").lr == FINE_TUNING == 1e-4
    assert configure(**pretrained, train="head").lr == 1e-3
    assert configure(**own, **{"model.pretrained": True}).lr == FINE_TUNING
    assert configure(**pretrained, lr=0.5).lr == 0.5
    assert (
        configure(**pretrained, preset="fast").lr == 0.05 and configure(**pretrained, preset="fast").optim.name == "sgd"
    )
    assert configure(dataset="csv", path="cells.csv", weights=str(tmp_path / "w.pt")).preset == "fast"


def test_runs_from_other_weights_are_not_compared(tmp_path):
    prints = set()
    for content in (b"a", b"b"):
        (tmp_path / "w.pt").write_bytes(content)
        prints.add(protocol_fingerprint(configure(dataset="digits", weights=str(tmp_path / "w.pt"))))
    prints |= {protocol_fingerprint(configure(dataset="digits"))}
    prints |= {protocol_fingerprint(configure(dataset="digits", weights=str(tmp_path / "w.pt"), train="head"))}
    assert len(prints) == 4


def test_a_table_without_the_models_name_changes_its_options_only(tmp_path):
    """Preset and rate follow the network that all layers name between them."""
    (tmp_path / "c.toml").write_text('dataset = "digits"\nmodel = "timm:resnet10t"\n')
    config = configure(config=str(tmp_path / "c.toml"), **{"model.pretrained": True})
    assert (config.model.name, config.preset, config.lr) == ("timm:resnet10t", "timm", FINE_TUNING)
    (tmp_path / "c.toml").write_text('dataset = "digits"\nmodel = { name = "timm:resnet10t", pretrained = true }\n')
    for more in ({"model": "timm:resnet10t"}, {"model.head": "cosine"}):
        assert configure(config=str(tmp_path / "c.toml"), **more).lr == FINE_TUNING
    assert configure(config=str(tmp_path / "c.toml"), model="timm:resnet18").lr == 1e-3
    assert configure(config=str(tmp_path / "c.toml"), model="whitened_cnn").preset == "fast"


def test_normalisation_is_the_users_or_the_weights_own_and_stays_when_they_move(tmp_path):
    import shutil

    from PIL import Image

    from divaug.data.load import dataset_of

    rows = ["path,label"]
    for i in range(20):
        Image.new("RGB", (8, 8), (10 * i, 20, 30)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    own = {"dataset": "csv", "path": str(tmp_path / "t.csv")}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"any")
    transform = {"shape": [8, 8, 3], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (folder / "model.json").write_text(json.dumps({"transform": transform}))
    config = configure(**own, weights=str(folder / "weights.safetensors"))
    assert config.image_size == 8
    shutil.rmtree(folder)
    dataset = dataset_of(config, 0)
    assert (dataset.mean, dataset.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    said = dataset_of(configure(**own, image_size=8, normalization=[0.5, 0.4, 0.3, 0.2, 0.2, 0.1]), 0)
    assert (said.mean, said.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    with pytest.raises(ConfigError, match="1 channels, but the images have 3"):
        dataset_of(configure(**own, image_size=8, normalization=[0.5, 0.4]), 0)
    with pytest.raises(ConfigError, match="means, then deviations > 0"):
        configure(**own, normalization=[0.5, 0.4, 0.3])


def test_one_network_in_a_file_and_no_missing_file(timms, tmp_path):
    torch.save({**{f"backbone.{k}": v for k, v in timms.items()}, **{f"model.{k}": v for k, v in timms.items()}}, tmp_path / "w.pth")  # fmt: skip
    backbone = build_network("timm:resnet10t", 4, size=(64, 64), seed=0).backbone
    with pytest.raises(ConfigError, match="twice, under several prefixes"):
        load_backbone(backbone, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="there is no such file"):
        load_backbone(backbone, tmp_path / "x.pth")

"""Pretrained weights from a file: what fits is loaded whole, and what does not is named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from divaug.base.errors import ConfigError
from divaug.config.layers import FINE_TUNING, configure
from divaug.config.tables import protocol_fingerprint
from divaug.models.network import build_network
from divaug.models.weights import input_beside, load_backbone


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
        with pytest.raises(ConfigError, match="cannot be read without running code"):
            load_backbone(backbone, tmp_path / name)


def test_a_model_folders_weights_say_what_images_they_saw(tmp_path):
    transform = {"shape": [48, 48, 3], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (tmp_path / "model.json").write_text(json.dumps({"transform": transform}))
    assert input_beside(tmp_path / "weights.safetensors") == (48, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
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

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import divaug
from divaug.base.errors import ConfigError, DivaugError
from divaug.data.datasets.digits import digits
from divaug.data.images import Request
from divaug.runs.decision import Decision
from divaug.runs.model_folder import decide, is_model_folder, save_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = divaug.configure(
        dataset="digits", method="ldam_drw", epochs=2, max_per_class=40, tracking="off", progress="none",
        output_dir=str(tmp_path_factory.mktemp("model")), monitor=False, **{"model.widths": [8]},
    )  # fmt: skip
    return divaug.run(config)


def test_a_copied_model_predicts_what_the_run_did_when_the_run_is_gone(trained, tmp_path):
    images = digits(Request()).test.images[:50]
    wanted = divaug.load(trained).predict(images)
    saved = save_model(tmp_path / "model", divaug.load(trained), trained.config, card={"counts": [1, 2]})
    shutil.move(saved, tmp_path / "copied")
    assert is_model_folder(tmp_path / "copied") and not is_model_folder(trained.path)
    model = divaug.load(tmp_path / "copied")
    pd.testing.assert_frame_equal(model.predict(images), wanted)
    assert model.card == {"counts": [1, 2]} and model.network.head.scale == 30.0
    assert {path.name for path in (tmp_path / "copied").iterdir()} == {"model.json", "weights.safetensors"}
    assert str(trained.path) not in (tmp_path / "copied" / "model.json").read_text()


def test_temperature_thresholds_and_abstention_are_applied(trained, tmp_path):
    images = digits(Request()).test.images[:200]
    decision = Decision(2.0, {"3": 0.01}, 0.5)
    model = divaug.load(save_model(tmp_path / "model", divaug.load(trained), trained.config, decision=decision))
    found = model.predict(images)
    logits = divaug.load(trained)._outputs(list(images))[1]
    probabilities = decision.probabilities(logits)
    np.testing.assert_allclose(found.filter(like="p_").to_numpy(), probabilities, atol=1e-6)
    expected = [["", *model.classes][c + 1] for c in decision.decide(probabilities, model.classes)]
    assert found["decision"].tolist() == expected
    assert {"", "3"} <= set(expected) and (found["label"] != "").all()


def test_decisions_can_be_changed_one_by_one(trained, tmp_path):
    path = save_model(tmp_path / "model", divaug.load(trained), trained.config, decision=Decision(1.5))
    decide(path, thresholds={"2": 0.3})
    decide(path, abstain=0.2)
    assert divaug.load(path).decision == Decision(1.5, {"2": 0.3}, 0.2)


@pytest.mark.parametrize("damage", ["weights.safetensors", "model.json", "keys", "format", "shape", "gone"])
def test_a_damaged_model_says_so(trained, tmp_path, damage):
    path = save_model(tmp_path / "model", divaug.load(trained), trained.config)
    content = json.loads((path / "model.json").read_text())
    if damage == "gone":
        (path / "weights.safetensors").unlink()
    elif damage == "keys":
        del content["classes"]
    elif damage == "format":
        content["format"] = 99
    elif damage == "shape":
        content["classes"] = content["classes"][:9]
    else:
        file = path / damage
        file.write_bytes(file.read_bytes()[:40])
    if damage in ("keys", "format", "shape"):
        (path / "model.json").write_text(json.dumps(content))
    with pytest.raises(DivaugError, match=r"damaged|format 99"):
        divaug.load(path)


OWN = """
import torch
from torch import nn
from divaug import MODELS

@MODELS.register("own_net")
class Own(nn.Module):
    feature_dim = 6
    def __init__(self, channels=1, size=(8, 8)):
        super().__init__()
        self.flat = nn.Linear(channels * size[0] * size[1], 6)
    def forward(self, images):
        return torch.relu(self.flat(images.flatten(1)))
"""
MAKE = """
import divaug
from divaug.runs.model_folder import save_model
config = divaug.configure(dataset="digits", model="own_net", epochs=1, max_per_class=20, tracking="off", monitor=False,
                          progress="none", output_dir="runs", imports=["own_net.py"])
run = divaug.run(config)
save_model(__import__("pathlib").Path("model"), divaug.load(run), run.config)
"""


def test_a_network_of_ones_own_travels_with_the_model_and_runs_only_if_trusted(tmp_path):
    (tmp_path / "own_net.py").write_text(OWN)
    subprocess.run([sys.executable, "-c", MAKE], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "own_net.py").unlink()
    shutil.rmtree(tmp_path / "runs")
    assert (tmp_path / "model" / "code" / "own_net.py").read_text() == OWN
    use = "import divaug, numpy; print(divaug.load('model'{}).predict(numpy.zeros((2, 8, 8, 1), 'uint8')).shape)"
    refused = subprocess.run(
        [sys.executable, "-c", use.format("")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0 and "it is not run unless" in refused.stderr
    trusted = subprocess.run(
        [sys.executable, "-c", use.format(", trust_imports=True")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert trusted.stdout.strip() == "(2, 15)", trusted.stderr


def test_a_pretrained_network_needs_no_other_file(tmp_path):
    """The option that named a file of weights is not kept: the folder has all weights."""
    import timm
    import torch

    torch.save(timm.create_model("resnet10t", in_chans=1, num_classes=0).state_dict(), tmp_path / "weights.pth")
    config = divaug.configure(
        dataset="digits", model="timm:resnet10t", epochs=1, max_per_class=4, batch_size=20, tracking="off",
        progress="none", monitor=False, imbalance_factor=1.0, output_dir=str(tmp_path / "runs"), image_size=32,
        **{"model.checkpoint_path": str(tmp_path / "weights.pth")},
    )  # fmt: skip
    run = divaug.run(config)
    images = digits(Request()).test.images[:4]
    wanted = divaug.load(run).predict(images)
    saved = save_model(tmp_path / "model", divaug.load(run), run.config)
    (tmp_path / "weights.pth").unlink()
    pd.testing.assert_frame_equal(divaug.load(saved).predict(images), wanted)
    with pytest.raises(ConfigError):
        divaug.load(run)

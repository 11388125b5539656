import pickle

import numpy as np
import pytest
import torch
from torch import nn

from divaug.base.errors import ConfigError, DataError
from divaug.latent.extraction import extract
from divaug.models import resnet20
from divaug.models.network import build_network
from divaug.models.weights import load_weights

IMAGES = torch.rand(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10) % 4
LOADER = [(IMAGES[:6], LABELS[:6]), (IMAGES[6:], LABELS[6:])]


class Plain(nn.Module):
    """A network of somebody else's, two linear layers and dropout."""

    def __init__(self, act=nn.ReLU, after=None):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(768, 20), act(), nn.Dropout(0.5))
        self.fc = nn.Linear(20, 4, bias=False)
        self.after = after or nn.Identity()

    def forward(self, images):
        return self.after(self.fc(self.trunk(images)))


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_divaugs_networks(head):
    model = build_network("whitened_cnn", 4, size=(16, 16), head=head, seed=0, widths=[8, 12])
    ours = extract(model, LOADER, class_names="abcd", split="test", class_counts=(4, 3, 2, 1))
    assert model.training
    with torch.no_grad():
        z = model.eval().features(IMAGES)
        np.testing.assert_allclose(ours.features, z.numpy(), rtol=1e-5)
        np.testing.assert_allclose(ours.logits, model.head(z).numpy(), rtol=1e-4, atol=1e-5)
    assert ours.cosine == (head == "cosine") and ours.scale == (30 if head == "cosine" else 1)
    assert (ours.split, ours.class_names, ours.class_counts) == ("test", ("a", "b", "c", "d"), (4, 3, 2, 1))
    assert ours.labels.tolist() == LABELS.tolist() and ours.nonnegative


def test_layers_that_a_loop_has_frozen_stay_frozen():
    """Their batch statistics would drift in the caller's own loop."""
    model = build_network("whitened_cnn", 4, size=(16, 16), head="linear", seed=0, widths=[8, 12])
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    model.train()
    frozen.eval()
    extract(model, LOADER, class_names="abcd")
    assert [module for module in model.modules() if not module.training] == [frozen]


def test_timm_models_and_any_module():
    import timm

    model = timm.create_model("resnet10t", num_classes=4)
    ours = extract(model, LOADER)
    assert ours.features.shape == (10, 512) and ours.class_names[3] == "class 3"
    plain = Plain()
    assert extract(plain, LOADER, layer="fc").bias is None
    assert not extract(Plain(nn.GELU), LOADER, layer="fc").nonnegative
    only = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    assert extract(only, LOADER).features.shape == (10, 768)


def test_a_resnet20_is_found_by_its_own_head():
    assert extract(resnet20(4), LOADER).features.shape == (10, 64)


@pytest.mark.parametrize(
    ("model", "layer", "error", "message"),
    [
        (Plain(), "fc2", ConfigError, r"no layer 'fc2'; its linear layers: \['trunk.1', 'fc'\]"),
        (Plain(), None, ConfigError, "2 linear layers; name the last one with layer="),
        (Plain(), "trunk.1", DataError, "has shape|are not scale"),
        (Plain(), "trunk.2", ConfigError, "the last layer is a ReLU, not linear"),
        (Plain(after=nn.Softmax(1)), "fc", DataError, "something stands between it and the logits"),
        (nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten()), None, ConfigError, "without a linear head there are no CE"),
        (nn.Sequential(nn.Linear(16, 4), nn.Flatten()), None, ConfigError, r"not a classifier on top of embeddings"),
    ],
)
def test_models_without_a_linear_head_are_refused(model, layer, error, message):
    with pytest.raises(error, match=message):
        extract(model, LOADER, layer=layer)
    assert not model._forward_pre_hooks and all(not m._forward_pre_hooks for m in model.modules())


def test_weights_are_loaded_without_running_code(tmp_path):
    model, other = Plain(), Plain()
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "w.pt")
    assert load_weights(other, tmp_path / "w.pt") is other
    assert torch.equal(other.fc.weight, model.fc.weight)
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    for name, message in (("evil.pt", "other content could run code"), ("none.pt", "there is no such file")):
        with pytest.raises(ConfigError, match=message):
            load_weights(other, tmp_path / name)
    assert not ran.exists()
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="do not fit the model"):
        load_weights(other, tmp_path / "other.pt")

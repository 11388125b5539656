import pickle

import pytest
import torch

from divaug.base.errors import ConfigError
from divaug.models import build_network, resnet20, resnet32, resnet44, resnet56
from divaug.models.heads import CosineHead, LinearHead
from divaug.models.whitened_cnn import WhitenedCNN

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("build", "parameters"),
    [(resnet20, 269_722), (resnet32, 464_154), (resnet44, 658_586), (resnet56, 853_018)],
)
def test_parameter_counts_are_the_literatures(build, parameters):
    assert sum(p.numel() for p in build(num_classes=10).parameters()) == parameters


@pytest.mark.parametrize("name", ["resnet20", "whitened_cnn", "agarap_cnn"])
@pytest.mark.parametrize(("size", "channels", "classes"), [((32, 32), 3, 10), ((17, 23), 1, 2), ((28, 28), 1, 100)])
def test_any_size_channels_and_classes(name, size, channels, classes):
    model = build_network(name, classes, channels=channels, size=size)
    images = torch.randn(3, channels, *size)
    z = model.features(images)
    assert z.shape == (3, model.backbone.feature_dim) and (z >= 0).all()
    assert model.head.weight.shape == (classes, model.backbone.feature_dim)
    z = model.eval().features(images)  # dropout draws anew
    torch.testing.assert_close(model(images), model.head(z), rtol=1e-4, atol=1e-4)
    again = pickle.loads(pickle.dumps(model)).eval()
    torch.testing.assert_close(again(images), model(images))


def test_option_a_shortcuts_have_no_weights():
    model = resnet20(num_classes=10)
    assert not [name for name, _ in model.named_parameters() if "shortcut" in name or "downsample" in name]
    block = model.backbone.stages[3].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2]) and not out[:, :8].any() and not out[:, 24:].any()


def test_seed_fixes_weights_and_backbone_and_head_have_their_own(global_rngs_untouched):
    a, b = (build_network("resnet20", 10, seed=3) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    other_head = build_network("resnet20", 10, seed=3, head="cosine")
    assert all(
        torch.equal(p, q) for p, q in zip(a.backbone.parameters(), other_head.backbone.parameters(), strict=True)
    )
    assert not torch.equal(a.head.weight, build_network("resnet20", 10, seed=4).head.weight)


def test_logits_are_scale_times_the_embeddings_sum_plus_bias():
    z = torch.rand(5, 6)
    for head in (LinearHead(6, 4), CosineHead(6, 4), CosineHead(6, 4, scale=7.0)):
        features, weight = head.factors(z)
        bias = 0 if head.bias is None else head.bias
        torch.testing.assert_close(head(z), head.scale * (features[:, None] * weight).sum(-1) + bias)
    assert CosineHead(6, 4)(z).abs().max() <= 30
    cosine = CosineHead(6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # of a loop of the user's
        assert torch.equal(cosine(z.bfloat16()), cosine(z.bfloat16().float())) and cosine(z).dtype == torch.float32
    torch.testing.assert_close(CosineHead(6, 4).weight.norm(dim=1), torch.ones(4))


def test_whitening_gives_patches_unit_covariance():
    images = torch.randn(200, 3, 10, 10, generator=torch.Generator().manual_seed(1)).cumsum(2).cumsum(3)
    model = WhitenedCNN(3, (10, 10), widths=(8, 8))
    model.initialize(images.split(64), eps=0.0)
    maps = torch.nn.functional.conv2d(images, model.whitening.weight)[:, :12]
    flat = maps.permute(0, 2, 3, 1).reshape(-1, 12).double()
    covariance = torch.cov(flat.T)
    torch.testing.assert_close(covariance, torch.eye(12, dtype=torch.float64), atol=0.02, rtol=0)
    assert torch.equal(model.whitening.weight[:12], -model.whitening.weight[12:])
    assert not model.whitening.weight.requires_grad


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_network("resnet33", 10), "unknown models 'resnet33'; did you mean 'resnet32'"),
        (lambda: build_network("whitened_cnn", 10, size=(8, 8)), "too small for 3 groups: at least 9x9"),
        (lambda: build_network("whitened_cnn", 10, widths=()), "widths must be a list"),
        (lambda: build_network("whitened_cnn", 10, width=3), "has no 'width'; did you mean 'widths'"),
        (lambda: build_network("resnet20", 1), "num_classes must be >= 2, got 1"),
        (lambda: build_network("resnet20", 10, head="cosin"), "did you mean 'cosine'"),
        (
            lambda: build_network("resnet20", 10, head="cosine", head_options={"scale": -1.0}),
            "scale must be > 0",
        ),
        (lambda: build_network("timm:resnet81", 10), "timm has no model 'resnet81'; did you mean one of"),
        (lambda: build_network("timm:resnet18", 10, nonsense=3), "cannot be built"),
        (lambda: build_network("timm:vit_tiny_patch16_224", 10, small_stem=True), "no ResNet stem"),
    ],
)
def test_bad_values_are_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_timm_models_train_with_a_small_stem_and_any_head():
    model = build_network("timm:resnet18", 7, seed=0, head="cosine", small_stem=True)
    assert model.backbone.feature_dim == 512 and model.head.weight.shape == (7, 512)
    model(IMAGES).sum().backward()
    assert model.backbone.model.conv1.stride == (1, 1)
    vit = build_network("timm:vit_tiny_patch16_224", 3, size=(32, 32), seed=0)
    assert vit.features(IMAGES).shape == (2, 192)


def test_agaraps_network_has_the_papers_layers_and_drops_half_of_its_embeddings_in_training():
    model = build_network("agarap_cnn", 10, channels=1, size=(28, 28))
    # 5x5x1x32 + 32, 5x5x32x64 + 64, 7x7x64x1024 + 1024, 1024x10 + 10
    assert sum(p.numel() for p in model.parameters()) == 832 + 51_264 + 3_212_288 + 10_250 == 3_274_634
    weights = torch.cat([p.detach().flatten() for n, p in model.backbone.named_parameters() if n.endswith("weight")])
    assert weights.abs().max() <= 0.2 and weights.std() == pytest.approx(
        0.1 * 0.8796, rel=0.01
    )  # cut at two deviations
    assert all((p == 0.1).all() for n, p in model.backbone.named_parameters() if n.endswith("bias"))
    images = torch.rand(64, 1, 28, 28)
    z, trained = model.eval().features(images), model.train().features(images)
    dropped = (trained == 0) & (z > 0)
    share = (dropped.sum() / (z > 0).sum()).item()  # of some 30,000 positive ones: 0.5 within 5 deviations of 0.003
    assert share == pytest.approx(0.5, abs=0.015) and torch.allclose(trained[trained > 0], 2 * z[trained > 0])
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        build_network("agarap_cnn", 10, channels=1, size=(28, 28), dropout=1.0)
    with pytest.raises(ValueError, match="at least 4x4"):
        build_network("agarap_cnn", 10, channels=1, size=(3, 9))

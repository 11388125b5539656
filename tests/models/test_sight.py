"""timm models: what they cannot take and what they do not see is refused, with sizes that work."""

import pytest

from divaug.base.errors import ConfigError
from divaug.models.timm_backbone import timm_backbone


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_tiny_patch16_224", 30, r"sees 16x16 of 30x30 pixels .* --image-size 16 or 32"),
        ("eva02_tiny_patch14_224", 32, r"sees 28x28 of 32x32 pixels .* --image-size 28 or 42"),
        ("mixer_s16_224", 40, r"sees 32x32 of 40x40 .* --image-size 32 or 48"),
        ("inception_v3", 32, r"cannot take images of 32x32: .* --image-size 299"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_do(name, size, message):
    with pytest.raises(ConfigError, match=message):
        timm_backbone(name, 3, (size, size), {})


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 33), ("vit_tiny_patch16_224", 48), ("mobilenetv3_small_050", 31)]
)
def test_networks_that_see_everything_are_taken(name, size):
    assert timm_backbone(name, 3, (size, size), {}).training  # and its weights are as they were

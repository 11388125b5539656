"""Every family's names, asserted: a component that is not found would be tested by nothing."""

from pathlib import Path

import pytest

import divaug
from divaug.config.layers import names
from divaug.config.registry import REGISTRIES

EXPECTED = {
    "datasets": ["cifar10", "cifar100", "csv", "digits", "fashion_mnist", "image_folder", "mnist"],
    "models": ["agarap_cnn", "resnet20", "resnet32", "resnet44", "resnet56", "whitened_cnn"],
    "heads": ["cosine", "linear"],
    "samplers": [
        "class_balanced_effective", "oversample", "progressively_balanced", "reversed", "square_root", "undersample",
        "uniform",
    ],
    "losses": [
        "balanced_softmax", "ce", "cost_matrix", "focal", "l2_svm", "label_aware_smoothing", "label_smoothing", "ldam",
        "logit_adjusted", "vs",
    ],
    "class_weights": ["effective_number", "inverse_frequency", "none"],
    "pixel": [
        "albumentations", "augmix", "autoaugment", "by_class", "chain", "color_jitter", "crop_flip", "cuda", "cutout",
        "default", "gaussian_noise", "levels", "none", "randaugment", "random_erasing", "shift", "strong", "timm",
        "torchvision", "trivialaugment", "weak",
    ],
    "mix": ["balanced_mixup", "cmo", "cutmix", "mixup", "none", "remix", "resizemix"],
    "partners": ["diverse", "minority", "redundant", "uniform", "within_group"],
    "feature": ["eos", "feature_noise", "feature_smote", "isda", "manifold_mixup", "none"],
    "optim": ["adamw", "muon", "sgd"],
    "posthoc": [
        "crt", "eos", "linear_svm", "logit_adjustment", "lws", "nearest_mean", "none", "ros", "smote", "tau_norm",
    ],
}  # fmt: skip
METHODS = [
    "any_donor", "balanced_mixup", "balanced_softmax", "cb_focal", "cdt", "ce_drw", "cmo", "cuda", "cutmix",
    "diverse", "drs", "eos", "erm", "feature_noise", "feature_smote", "focal", "isda", "l2_svm",
    "label_aware_smoothing", "label_smoothing", "ldam", "ldam_drw", "logit_adjusted", "manifold_mixup", "mixup",
    "progressively_balanced", "randaugment", "redundant", "remix", "remix_drw", "resizemix", "reversed", "ros",
    "rus", "strong_tail", "trivialaugment", "two_phase", "vs",
]  # fmt: skip


def test_every_family_has_the_names_it_should():
    assert {family: list(registry.entries()) for family, registry in REGISTRIES.items()} == EXPECTED
    assert sorted(names("methods")) == METHODS
    assert sorted(names("presets")) == ["fast", "fast_v1", "long", "paper", "sprint", "timm"]


@pytest.mark.parametrize(
    "family", ["datasets", "samplers", "losses", "pixel", "mix", "partners", "feature", "optim", "posthoc"]
)
def test_one_component_one_file_one_name(family):
    folder = Path(divaug.__file__).parent.joinpath(*REGISTRIES[family].package.split(".")[1:])
    files = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")]
    beside = {"losses": ["class_weights"], "optim": ["parameters", "schedule"]}.get(family, [])
    assert sorted(files) == sorted(EXPECTED[family] + beside)


@pytest.mark.parametrize(("family", "name"), [(f, n) for f in EXPECTED if f not in ("datasets",) for n in EXPECTED[f]])
def test_docstrings_say_what_differs_from_the_paper(family, name):
    entry = REGISTRIES[family].entry(name)
    assert entry.summary.endswith((".", ":"))
    if family not in ("models", "class_weights") or name in (
        "agarap_cnn",
        "whitened_cnn",
        "effective_number",
        "inverse_frequency",
    ):
        assert "Differs from the paper:" in entry.doc
    for option in entry.options:
        assert f"{option}:" in entry.doc, f"{option} is not described"

"""Values from users: finite, and as Python's libraries hand them over."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from divaug import configure
from divaug.base.errors import ConfigError
from divaug.base.groups import same_counts
from divaug.config.registry import MIX, PIXEL, REGISTRIES, not_finite, plain
from divaug.config.schema import Component, Config

BAD = (float("nan"), float("inf"), -float("inf"))


@pytest.mark.parametrize("value", BAD)
def test_numbers_are_finite_everywhere(value):
    for keys in (
        {"lr": value}, {"imbalance_factor": value}, {"weight_decay": value}, {"monitor_at": [0.5, value]},
        {"mix": {"name": "cutmix", "alpha": value}}, {"mix.stop": value}, {"model.widths": [8, value]},
        {"pixel": {"name": "by_class", "policy": {"tail": value}}}, {"min_steps": value},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            configure(dataset="digits", **keys)
    with pytest.raises(ConfigError, match="must be finite"):
        Config(lr=value)
    with pytest.raises(ConfigError, match="must be finite"):
        Config(mix=Component("cutmix", {"alpha": value}))
    with pytest.raises(ConfigError, match=r"mix.alpha of 'cutmix' must be finite"):
        MIX.build("cutmix", facts={}, alpha=value)


def test_every_float_option_of_every_component_is_checked():
    checked = 0
    for registry in REGISTRIES.values():
        for name, entry in registry.entries().items():
            for key, (kind, _) in entry.options.items():
                if kind and "float" in kind:
                    for value in BAD:
                        with pytest.raises(ConfigError, match="must be finite"):
                            registry.check(name, {key: value})
                        checked += 1
    assert checked > 100


def test_paths_and_numpys_scalars_are_accepted():
    config = configure(
        dataset="image_folder", path=Path("own"), epochs=np.int64(3), lr=np.float32(0.5), monitor=np.bool_(False),
        monitor_at=(np.float64(0.5),), **{"mix": "cutmix", "mix.alpha": np.float64(0.25)},
    )  # fmt: skip
    assert (config.path, config.epochs, config.lr, config.monitor) == (os.path.abspath("own"), 3, 0.5, False)
    assert type(config.epochs) is int and type(config.mix.options["alpha"]) is float
    assert PIXEL.build("cutout", facts={}, size_frac=np.float32(0.5)).size_frac == 0.5
    assert plain({"a": [Path("x"), np.int32(2)], "b": (1, "c")}) == {"a": ["x", 2], "b": [1, "c"]}
    assert not_finite({"a": [1.0, {"b": float("nan")}]}) and not not_finite({"a": [1.0, "nan", None]})


def test_counts_are_those_of_the_labels():
    labels = torch.tensor([0] * 80 + [1] * 20)
    same_counts(labels, torch.tensor([80, 20, 0]))
    with pytest.raises(ValueError, match=r"classes \[0, 1\] have \[80, 20\] images, not \[20, 80\]"):
        same_counts(labels, torch.tensor([20, 80]))
    with pytest.raises(ValueError, match="labels must lie in 0 to 0"):
        same_counts(labels, torch.tensor([100]))


def test_components_refuse_counts_of_other_labels():
    from divaug.config.registry import PARTNERS, SAMPLERS

    labels, wrong = torch.tensor([0] * 8 + [1] * 2), torch.tensor([2, 8])
    facts = {"labels": labels, "class_counts": wrong, "seed": 0, "encoder_features": torch.rand(10, 16)}
    asked = 0
    for registry in (SAMPLERS, PARTNERS, MIX):
        for name, entry in registry.entries().items():
            if {"labels", "class_counts"} <= set(entry.facts) <= set(facts):
                with pytest.raises(ConfigError, match="class_counts are not those of the labels"):
                    registry.build(name, facts=facts)
                asked += 1
    assert asked >= 8


def test_plans_are_for_images_of_their_size():
    from divaug.mix import CutMix, ResizeMix

    labels = torch.tensor([0, 1, 0, 1])
    for mix in (CutMix(prob=1.0), ResizeMix(prob=1.0)):
        plan = mix.sample(labels, (8, 6), np.random.default_rng(0))
        mix.apply(torch.rand(4, 3, 8, 6), labels, plan)
        for size in ((6, 8), (16, 12), (4, 3)):
            with pytest.raises(ValueError, match=r"sampled for images of \(8, 6\)"):
                mix.apply(torch.rand(4, 3, *size), labels, plan)


def test_components_by_hand_refuse_numbers_that_are_not_finite():
    from divaug.losses import BalancedSoftmax, Focal, LogitAdjusted
    from divaug.mix import CutMix, Mixup
    from divaug.pixel import GaussianNoise
    from divaug.samplers import SquareRoot

    labels, counts = torch.tensor([0, 0, 1]), torch.tensor([2, 1])
    for value in BAD:
        for make in (
            lambda v: CutMix(alpha=v), lambda v: Mixup(alpha=v), lambda v: Focal(gamma=v),
            lambda v: LogitAdjusted(counts, tau=v), lambda v: SquareRoot(labels, counts, power=v),
            lambda v: GaussianNoise(std=v),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="must be finite"):
                make(value)
    with pytest.raises(ConfigError, match="weights of classes must be finite"):
        REGISTRIES["samplers"].build("square_root", facts={"labels": labels, "class_counts": counts}, power=1e5)
    for loss in (LogitAdjusted(torch.tensor([5])), BalancedSoftmax(torch.tensor([5, 4, 3, 2, 1]))):
        with pytest.raises(Exception, match=r"but there are 3 logits|Type-check error"):
            loss(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))


def test_a_mix_wants_one_label_per_image():
    from divaug.mix import CutMix, Mixup

    labels, rng = torch.tensor([0, 1, 0, 1]), np.random.default_rng(0)
    for mix in (CutMix(prob=1.0), Mixup(prob=1.0)):
        plan = mix.sample(labels, (8, 8), rng)
        with pytest.raises(Exception, match=r"one label per image is needed, got 6 images|Type-check error"):
            mix.apply(torch.rand(6, 3, 8, 8), labels, plan)


def test_one_wrong_import_does_not_spoil_the_process():
    with pytest.raises(ConfigError, match="no such module"):
        configure(dataset="digits", imports=["typo_module"])
    assert configure(dataset="digits", mix="cutmix").mix.name == "cutmix"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/abs", "x" * 201])
def test_an_experiment_is_one_folder(name):
    with pytest.raises(ConfigError, match="experiment must be one folder's name"):
        configure(dataset="digits", experiment=name)


def test_text_that_is_not_utf8_and_seeds_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="path must be UTF-8 text"):
        configure(dataset="image_folder", path="bad\udcff")
    for key, value in (("seed", 2**32), ("split_seed", 2**31), ("lr", 1e300), ("image_size", 10**6)):
        with pytest.raises(ConfigError, match=key.replace("_", "-")):
            configure(dataset="digits", **{key: value})


def test_cuts_take_whole_numbers():
    import divaug

    data = torch.utils.data.TensorDataset(torch.zeros(300, 1), torch.arange(300) % 3)
    for keys in (
        {"profile": "custom", "counts": [10.5, 5, 1]}, {"max_per_class": 10.5}, {"seed": -1}, {"seed": 1.5},
    ):  # fmt: skip
        with pytest.raises(Exception, match=r"must be whole and not negative|Type-check error"):
            divaug.long_tail(data, **keys)
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        divaug.long_tail(torch.utils.data.TensorDataset(torch.zeros(3, 1), torch.tensor([0.0, 0.7, 1.9])))

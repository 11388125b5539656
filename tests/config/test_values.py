"""Values from users: finite, and as Python's libraries hand them over."""

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
    assert (config.path, config.epochs, config.lr, config.monitor) == ("own", 3, 0.5, False)
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

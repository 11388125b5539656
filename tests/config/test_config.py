import re
import tomllib
from dataclasses import replace

import pytest

from divaug.base.errors import ConfigError
from divaug.config import layers
from divaug.config.layers import configure, experiment_name, method_label, resolve
from divaug.config.schema import Component, Config
from divaug.config.tables import dump, from_layers, protocol_fingerprint, to_table


def test_a_dump_is_the_same_configuration_again():
    for method in layers.names("methods"):
        config = resolve(flags={"method": method, "seed": 3, "monitor_at": [0.0, 1.0], "encoder": "some.pt"})
        assert from_layers([("dump", tomllib.loads(dump(config)))]) == config


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"epoch": 3}, r"t: unknown key 'epoch'; did you mean 'epochs'\?"),
        ({"epochs": "ten"}, "t: epochs: expected int, got 'ten'"),
        ({"epochs": 1.5}, r"t: epochs: expected int, got 1\.5"),
        ({"monitor": 1}, "t: monitor: expected bool, got 1"),
        ({"epochs": True}, "t: epochs: expected int, got True"),
        ({"milestones": 0.5}, "t: milestones: expected a list"),
        ({"schedule": "cosin"}, "t: schedule: unknown 'cosin'; did you mean 'cosine'"),
        ({"mix": {"alpha": 1.0}}, "mix 'none' has no 'alpha'"),
        ({"mix": {"name": 3}}, "t: mix: expected a name or a table with a name"),
        ({"mix": "cutmx"}, "unknown mix 'cutmx'; did you mean 'cutmix'"),
        ({"model": "resnet31"}, "unknown models 'resnet31'"),
        ({"dataset": "cifar11"}, "unknown datasets 'cifar11'; did you mean 'cifar1"),
        ({"imbalance_factor": 0.5}, r"imbalance-factor must be >= 1, got 0\.5"),
        ({"class_order": "random"}, "class-order must be native, reversed or permuted:SEED, got 'random'"),
        ({"counts": [3, 4]}, "counts go with profile custom"),
        ({"profile": "custom"}, "counts go with profile custom"),
        ({"profile": "custom", "counts": [3, 0]}, "a class with no image cannot be learned"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"batch_size": 1}, "batch-size must be >= 2"),
        ({"lr": 0.0}, r"lr must be > 0, got 0\.0"),
        ({"val_frac": 1.0}, r"val-frac must lie in \[0, 1\), got 1\.0"),
        ({"momentum": 0.0}, "nesterov needs momentum > 0"),
        ({"top_k": 0}, "top-k must be >= 1"),
        ({"seed": -1}, "seed must lie in 0 to"),
        ({"loss": "ldam"}, "loss 'ldam' needs the cosine head, got 'linear'.*--model.head cosine"),
        ({"model": {"name": "resnet32", "head": "cosin"}}, "unknown heads 'cosin'; did you mean 'cosine'"),
        ({"phase": [{"mix": "cutmix"}]}, "a phase needs 'from'"),
        ({"phase": [{"from": 1.0, "mix": "cutmix"}]}, r"from must lie in \[0, 1\), got 1\.0"),
        ({"phase": [{"from": 0.5, "lr": 0.1}]}, "a phase cannot change 'lr'"),
        ({"phase": [{"from": 0.5, "mix": "cutmx"}]}, "unknown mix 'cutmx'"),
        ({"phase": [{"from": 0.5, "loss": "ldam"}]}, "needs the cosine head"),
        ({"phase": {"from": 0.5}}, "expected a list"),
    ],
)
def test_what_is_wrong_is_named(table, message):
    with pytest.raises(ConfigError, match=message):
        from_layers([("t", table)])


def test_later_layers_win_and_keep_hyperparameters_of_the_same_component():
    config = from_layers([
        ("a", {"mix": {"name": "cmo", "alpha": 0.5, "prob": 0.5}, "lr": 0.3, "model": {"head": "cosine"}}),
        ("b", {"mix": {"alpha": 0.25}, "epochs": 7}),
        ("c", {"model": {"name": "resnet32"}}),
    ])  # fmt: skip
    assert config.mix == Component("cmo", {"alpha": 0.25, "prob": 0.5})
    assert (config.lr, config.epochs, config.head, config.model) == (
        0.3,
        7,
        Component("cosine"),
        Component("resnet32"),
    )
    assert from_layers([("a", {"mix": {"name": "cmo", "prob": 0.5}}), ("b", {"mix": "cutmix"})]).mix.options == {}


def test_precedence():
    layers = {
        "recipe": {"dataset": "cifar10", "lr": 1.0, "epochs": 1},
        "config": {"epochs": 3, "batch_size": 3},
        "env": {"batch_size": 4, "top_k": 4},
        "flags": {"top_k": 5},
    }
    config = resolve(**layers)
    assert config.lr == 0.2  # the preset over the recipe
    assert (config.epochs, config.batch_size, config.top_k) == (3, 4, 5)
    assert resolve(flags={"preset": "paper"}).model.name == "resnet32"
    assert resolve(flags={"dataset": "digits"}).model.options == {"widths": [32, 64]}


def test_environment_variables(monkeypatch):
    monkeypatch.setenv("DIVAUG_EPOCHS", "3")
    monkeypatch.setenv("DIVAUG_DATASET", "digits")
    monkeypatch.setenv("DIVAUG_DATA", "/somewhere")
    assert layers.environment() == {"epochs": 3, "dataset": "digits"}
    monkeypatch.setenv("DIVAUG_EPOCH", "3")
    with pytest.raises(ConfigError, match="DIVAUG_EPOCH: no such key; did you mean 'epochs'"):
        layers.environment()


def test_paper_preset_is_ldam_drws_protocol():
    config = resolve(flags={"preset": "paper", "method": "ldam_drw"})
    assert (config.model.name, config.epochs, config.batch_size, config.lr, config.momentum) == (
        "resnet32", 200, 128, 0.1, 0.9,
    )  # fmt: skip
    assert (config.nesterov, config.weight_decay, config.decay_norms, config.precision) == (
        False,
        2e-4,
        True,
        "fp32",
    )
    assert (config.schedule, config.milestones, config.drop) == ("step", (0.8, 0.9), 0.01)
    assert round(config.warmup_frac * 200) == 5 and config.phases[0].start * 200 == 160
    assert config.head.name == "cosine" and config.phases[0].components["class_weights"].options == {"beta": 0.9999}


def test_names_of_methods():
    assert method_label(resolve(flags={"method": "cmo"})) == "cmo"
    assert method_label(resolve(flags={"method": "cmo", "mix": {"alpha": 0.5}})) == "cmo+mix.alpha=0.5"
    assert method_label(resolve(flags={"mix": {"name": "remix", "tau": 0.25}})) == "erm+mix=remix+mix.tau=0.25"
    assert method_label(resolve(flags={"model": {"head": "cosine"}})) == "erm+model.head=cosine"
    other = resolve(config={"phase": [{"from": 0.5, "mix": "cutmix"}]})
    assert method_label(other).startswith("erm+phase=")
    strange = resolve(flags={"model": {"head": {"name": "cosine", "scale": 30.0}}, "mix": {"name": "cutmix"}})
    assert method_label(replace(strange, mix=Component("cutmix", {"alpha": 1e-300}))).startswith("erm+")


def test_names_of_experiments():
    assert experiment_name(resolve(flags={})) == "cifar10-exp100-fast"
    assert experiment_name(resolve(flags={"seed": 5, "method": "ldam_drw", "workers": 2})) == "cifar10-exp100-fast"
    assert experiment_name(resolve(flags={"imbalance_factor": 50.0})) == "cifar10-exp50-fast"
    assert experiment_name(resolve(flags={"profile": "balanced"})) == "cifar10-balanced-fast"
    assert experiment_name(resolve(flags={"dataset": "csv", "path": "a/cells.csv"})) == "cells-natural-fast"
    changed = experiment_name(resolve(flags={"epochs": 11}))
    assert re.fullmatch("cifar10-exp100-fast-11ep-[0-9a-f]{8}", changed)
    cells = {"dataset": "csv", "path": "a/cells.csv", "image_size": 64, "max_per_class": 100}
    assert re.fullmatch("cells-natural-fast-64px-100max-[0-9a-f]{8}", experiment_name(resolve(flags=cells)))
    assert re.fullmatch("cifar10-exp100-timm-half-a-timm-resnet18-[0-9a-f]{8}",
                        experiment_name(resolve(flags={"data_part": "a", "model": "timm:resnet18"})))  # fmt: skip
    odd = experiment_name(resolve(flags={"dataset": "image_folder", "path": "my (own)\n images"}))
    assert odd == "my--own---images-natural-fast"
    mine = resolve(flags={"mix": {"name": "cmo", "partner": {"name": "minority"}}, "pixel": "timm:rand-m9"})
    assert re.fullmatch("erm\\+pixel=timm-rand-m9\\+mix=cmo\\+[0-9a-f]{8}", method_label(mine))
    assert experiment_name(resolve(flags={"epochs": 11, "experiment": "mine"})) == "mine"


def test_fingerprint_covers_the_protocol_and_nothing_else():
    base = resolve(flags={})
    for same in (
        {"seed": 4},
        {"method": "ldam_drw"},
        {"device": "cpu"},
        {"output_dir": "x"},
        {"loader": "streaming"},
    ):
        assert protocol_fingerprint(resolve(flags=same)) == protocol_fingerprint(base)
    for other in (
        {"split_seed": 1},
        {"class_order": "reversed"},
        {"lr": 0.1},
        {"preset": "paper"},
        {"monitor": False},
    ):
        assert protocol_fingerprint(resolve(flags=other)) != protocol_fingerprint(base)


def test_a_slot_that_a_methods_phases_change_cannot_be_replaced():
    with pytest.raises(ConfigError, match="method 'ldam_drw' changes class_weights over training"):
        resolve(flags={"method": "ldam_drw", "class_weights": "inverse_frequency"})


def test_every_key_has_help_and_a_group():
    config = Config()
    assert all(field.metadata["help"] and field.metadata["group"] for field in config.__dataclass_fields__.values())
    assert "head" in to_table(config)["model"]


def test_environment_values_are_read_by_their_keys_type(monkeypatch):
    monkeypatch.setenv("DIVAUG_EXPERIMENT", "2024")
    monkeypatch.setenv("DIVAUG_MONITOR_AT", "0,1")
    monkeypatch.setenv("DIVAUG_MAX_PER_CLASS", "7")
    table = layers.environment()
    assert table == {"experiment": "2024", "monitor_at": [0, 1], "max_per_class": 7}
    assert resolve(env=table).monitor_at == (0.0, 1.0)


@pytest.mark.parametrize(
    ("method", "slot", "before", "after"),
    [
        ("ce_drw", "class_weights", "none", "effective_number"),
        ("drs", "sampler", "uniform", "oversample"),
        ("two_phase", "sampler", "oversample", "uniform"),
        ("ldam_drw", "class_weights", "none", "effective_number"),
    ],
)
def test_methods_of_two_phases_change_what_they_say_at_four_fifths(method, slot, before, after):
    config = resolve(flags={"method": method})
    (phase,) = config.phases
    assert phase.start == 0.8 and list(phase.components) == [slot]
    assert getattr(config, slot).name == before and phase.components[slot].name == after


def test_a_runs_own_record_is_of_its_method_alone(tmp_path):
    """All of its slots stand above a method: another method would change its name and nothing else."""
    (tmp_path / "config.toml").write_text(dump(configure(dataset="digits", method="erm")))
    assert configure(config=str(tmp_path / "config.toml")).mix.name == "none"
    with pytest.raises(ConfigError, match="a run's own record, which has all keys of a method: cmo"):
        configure(config=str(tmp_path / "config.toml"), method="cmo")

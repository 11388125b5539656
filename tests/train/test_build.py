"""How a configuration becomes stages of training."""

import pytest
import torch

from divaug.base.errors import ConfigError
from divaug.config.layers import method_label, resolve
from divaug.config.registry import PIXEL, add_import
from divaug.models.network import build_network
from divaug.train.build import build_optimizer, build_stages

FACTS = {
    "labels": torch.tensor([0, 0, 0, 1]), "class_counts": torch.tensor([3, 1]), "num_classes": 2, "feature_dim": 4, "total_steps": 9,
    "default_pixel": PIXEL.build("none", facts={}),
}  # fmt: skip
LEARNER = """
from divaug.config.registry import PIXEL

@PIXEL.register("learner")
class Learner:
    def sample(self, labels, size, rng):
        return None

    def apply_one(self, image, plan, i):
        return image

    def update(self, images, predict, rng):
        pass

    def state_dict(self):
        return {}
"""


def stages(**flags):
    config = resolve(flags={"dataset": "digits", "pixel": "none", **flags})
    return [(s.start, type(s.mix).__name__) for s in build_stages(config, FACTS, torch.device("cpu"))]


def phase(start):
    return {"phase": [{"from": start, "mix": "cutmix"}]}


@pytest.mark.parametrize(
    ("start", "epochs", "first"), [(0.5, 4, 2), (0.9, 4, 3), (0.99, 10, 9), (0.3, 1, 0), (0.8, 200, 160)]
)
def test_a_phase_has_the_last_epoch_at_least(start, epochs, first):
    found = stages(epochs=epochs, **phase(start))
    assert found[-1] == (first, "CutMix") and len(found) == 1 + (first > 0)


def test_a_mix_starts_in_the_last_epoch_at_the_latest_or_never():
    options = {"name": "cutmix", "start": 0.98}
    assert stages(epochs=12, mix=options) == [(0, "NoMix"), (11, "CutMix")]
    assert stages(epochs=12, mix={**options, "start": 1.0}) == [(0, "NoMix")]
    assert stages(epochs=4, mix={**options, "start": 0.25, "stop": 0.75}) == [(0, "NoMix"), (1, "CutMix"), (3, "NoMix")]


def test_features_that_learn_from_unmixed_rows_are_refused_beside_a_mix_of_every_step():
    feature = {"feature": "eos", "mix": "mixup"}
    apart = "let one of them start when the other stops"
    for keys, way in (
        (feature, f"give --mix.prob 0.5, or {apart}"),
        ({**feature, "feature": "isda"}, f"give --mix.prob 0.5, or {apart}"),
        ({**feature, "mix": "balanced_mixup"}, apart),  # has no prob
    ):
        with pytest.raises(ConfigError, match=rf"rows that are not mixed, and mix \w+ mixes every step: {way}$"):
            stages(epochs=4, **keys)
    assert stages(epochs=4, **{**feature, "mix": {"name": "mixup", "prob": 0.5}}) == [(0, "Mixup")]
    assert stages(epochs=4, **{**feature, "feature": "manifold_mixup"}) == [(0, "Mixup")]
    apart = {"feature": {"name": "eos", "start": 0.5}, "mix": {"name": "mixup", "stop": 0.5}}
    assert stages(epochs=4, **apart) == [(0, "Mixup"), (2, "NoMix")]


def test_a_mix_between_two_epochs_is_refused():
    with pytest.raises(ConfigError, match=r"the mix runs from 0.5 to 0.54 of 10 epochs, in which no whole epoch lies"):
        stages(epochs=10, mix={"name": "cutmix", "start": 0.5, "stop": 0.54})


def test_what_learns_between_epochs_must_be_able_to_resume(tmp_path):
    (tmp_path / "learner.py").write_text(LEARNER)
    add_import(str(tmp_path / "learner.py"))
    with pytest.raises(
        ConfigError, match="pixel 'learner': Learner has update, so it needs levels, load_state_dict too"
    ):
        stages(pixel="learner")


def of(slot, **flags):
    config = resolve(flags={"dataset": "digits", "pixel": "none", "epochs": 4, **flags})
    return [(s.start, type(getattr(s, slot)).__name__) for s in build_stages(config, FACTS, torch.device("cpu"))]


def test_any_slot_starts_and_stops_and_has_its_default_outside():
    assert of("feature", feature={"name": "manifold_mixup", "start": 0.5}) == [(0, "NoFeature"), (2, "ManifoldMixup")]
    assert of("pixel", pixel={"name": "cutout", "stop": 0.75}) == [(0, "Cutout"), (3, "NoPixel")]  # default_pixel here
    assert of("class_weights", class_weights={"name": "inverse_frequency", "start": 0.25}) == [
        (0, "NoneType"),
        (1, "Tensor"),
    ]
    assert of("sampler", sampler={"name": "oversample", "start": 0.5}) == [(0, "Uniform"), (2, "Oversample")]
    both = {"mix": {"name": "cutmix", "stop": 0.5}, "feature": {"name": "manifold_mixup", "start": 0.25}}
    assert of("mix", **both) == [(0, "CutMix"), (1, "CutMix"), (2, "NoMix")]
    assert of("feature", **both) == [(0, "NoFeature"), (1, "ManifoldMixup"), (2, "ManifoldMixup")]


def test_a_component_is_one_object_in_all_stages_that_have_it():
    config = resolve(flags={"dataset": "digits", "pixel": "none", "epochs": 4, "mix": {"name": "cutmix", "stop": 0.5},
                            "feature": "manifold_mixup", "phase": [{"from": 0.75, "sampler": "oversample"}]})  # fmt: skip
    found = build_stages(config, FACTS, torch.device("cpu"))
    assert [s.start for s in found] == [0, 2, 3]
    assert found[0].feature is found[1].feature is found[2].feature and found[1].mix is found[2].mix


def test_start_and_stop_are_of_the_slot():
    lasting = resolve(flags={"method": "cmo"})
    assert (lasting.mix.start, lasting.mix.stop) == (0.02, 0.985) and "start" not in lasting.mix.options
    reset = resolve(flags={"method": "cmo", "mix": {"start": 0.0, "alpha": 0.5}})
    assert (reset.mix.start, reset.mix.stop, reset.mix.options["alpha"]) == (0.0, 0.985, 0.5)
    assert method_label(reset) == "cmo+mix.alpha=0.5+mix.start=default"
    for wrong, said in (
        (
            {"mix": {"name": "cutmix", "start": 0.5, "stop": 0.4}},
            "mix: start and stop must satisfy 0 <= start <= stop <= 1",
        ),
        ({"mix": {"name": "cutmix", "stop": 2.0}}, "mix: start and stop must satisfy"),
        ({"model": {"name": "resnet20", "start": 0.5}}, "model cannot start or stop within training"),
        ({"phase": [{"from": 0.5, "mix": {"name": "cutmix", "stop": 0.9}}]}, "a phase begins at its 'from'"),
    ):
        with pytest.raises(ConfigError, match=said):
            resolve(flags={"dataset": "digits", **wrong})


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.zeros(3), "not all 0"), (torch.tensor([1.0, -1.0, 1.0]), ">= 0"), (torch.tensor([1.0, float("nan"), 1.0]), "finite"),
        (torch.ones(2), r"torch.float32 \(2,\); one float per class \(3\)"), (torch.ones(3, dtype=torch.int64), "torch.int64"),
        ([1.0, 1.0, 1.0], "returned list"), (torch.full((3,), 3e38), "between 1e-30"), (torch.full((3,), 1e-45), "between 1e-30"),
    ],
)  # fmt: skip
def test_class_weights_with_which_nothing_can_be_learned_are_refused(weights, said):
    from divaug.train.build import _check_class_weights

    with pytest.raises(ConfigError, match=f"class_weights 'mine' .*{said}"):
        _check_class_weights("mine", weights, 3)
    for right in (None, torch.tensor([0.0, 2.0, 1.0])):
        _check_class_weights("mine", right, 3)


def test_muon_is_refused_where_no_batch_normalisation_undoes_its_scaling():
    for model, alone in (("agarap_cnn", True), ("resnet20", False), ("whitened_cnn", False)):
        config = resolve(flags={"dataset": "digits", "model": model, "optim": "muon"})
        network = build_network(model, 10, channels=1, size=(28, 28))
        if alone:
            with pytest.raises(
                ConfigError, match="without batch normalisation computes, and agarap_cnn has none: use sgd"
            ):
                build_optimizer(config, network)
            build_optimizer(resolve(flags={"dataset": "digits", "model": model, "optim": "sgd"}), network)
            network.backbone.requires_grad_(False)
            build_optimizer(config, network)  # it moves no kernel
        else:
            build_optimizer(config, network)

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from divaug.base.errors import ConfigError
from divaug.config.layers import resolve
from divaug.config.registry import FEATURE, MIX, PARTNERS, PIXEL
from divaug.data.load import load_data
from divaug.recipes import gallery
from divaug.report.gallery import POINTS, STRENGTHS, _made, clouds, images, strengths_of
from divaug.train.build import build


def test_every_augmentation_is_in_the_gallery(monkeypatch):
    assert gallery.main(["--max-per-class", "30"]) == 0
    page = Path("runs/gallery/digits.md").read_text()
    for family, registry in (("pixel", PIXEL), ("mix", MIX), ("partners", PARTNERS), ("feature", FEATURE)):
        for name in registry.entries():
            if (family, name) not in (("pixel", "chain"), ("partners", "uniform")):
                assert f"| {family} | {name} |" in page, name
    picture = matplotlib.image.imread("runs/gallery/digits.png")
    assert picture.shape[0] > 5000 and picture.std() > 0.1
    assert "data:image/png" in Path("runs/gallery/digits.html").read_text()


def test_what_it_does_not_do(capsys):
    assert gallery.main(["--dry-run"]) == 0 and not Path("runs").exists()
    assert gallery.main(["--methods", "erm,cmo"]) == 2
    assert "takes one method and one seed" in capsys.readouterr().err
    assert gallery.main(["--device", "cuda"]) == 2
    assert "--device cuda has no effect here" in capsys.readouterr().err


def test_two_strengths_are_refused(monkeypatch):
    monkeypatch.setattr(PIXEL.factory("cutout"), "strengths", ({}, {}))
    with pytest.raises(ConfigError, match="pixel 'cutout' must have 3 strengths, weak to strong, but has 2"):
        strengths_of("pixel", "cutout")


def test_a_mix_that_resamples_is_shown_for_the_wanted_pictures():
    config = resolve(flags={"dataset": "digits", "max_per_class": 30, "imbalance_factor": 5.0})
    data = load_data(config)
    built = build(config, data)
    built.facts["encoder_features"] = torch.rand(len(built.train.labels), 20)
    plain, rows = images(data, built)
    (row,) = [row for row in rows if row.name == "balanced_mixup"]
    for shown in row.shown:
        assert [s.caption.split()[0] for s in shown] == [s.caption for s in plain]


def test_strengths_can_be_built_and_differ(facts_of_gallery):
    for family, registry in (("pixel", PIXEL), ("mix", MIX), ("partners", PARTNERS), ("feature", FEATURE)):
        for name in registry.entries():
            if name == "chain":
                continue
            options = strengths_of(family, name)
            assert len(options) == STRENGTHS
            for chosen in options:
                registry.build(name, facts=facts_of_gallery, **chosen)
            if hasattr(registry.factory(name), "strengths"):
                assert len({str(chosen) for chosen in options}) == STRENGTHS, name


def test_a_users_component_without_strengths_is_shown_at_its_defaults():
    assert strengths_of("pixel", "trivialaugment") == [{}, {}, {}]
    assert strengths_of("mix", "cutmix")[0] == {"prob": 1.0, "alpha": 0.2}


def test_clouds_hold_what_was_made(facts_of_gallery):
    from divaug.report.gallery import _made

    features, labels = facts_of_gallery["encoder_features"], facts_of_gallery["labels"]
    facts = {**facts_of_gallery, "feature_dim": 12, "total_steps": 1}
    assert not len(_made("none", {}, facts, features, labels, 2))
    smote = _made("feature_smote", {"rate": 1.0}, facts, features, labels, 2).numpy()
    own = features[labels == 2].numpy()
    assert len(smote) and (smote >= own.min(0) - 1e-5).all() and (smote <= own.max(0) + 1e-5).all()
    assert np.isfinite(_made("isda", {}, facts, features, labels, 2).numpy()).all()


def test_isda_is_shown_at_the_end_of_its_schedule(monkeypatch):
    config = resolve(flags={"dataset": "digits", "max_per_class": 30, "imbalance_factor": 5.0})
    data = load_data(config)
    built, made = build(config, data), {}

    def recorded(name, options, facts, features, labels, small):
        out = _made(name, options, facts, features, labels, small)
        if name == "isda":
            made[options["strength"]] = out, features[labels == small]
        return out

    monkeypatch.setattr("divaug.report.gallery._made", recorded)
    clouds(data, built, lambda images: images.flatten(1))
    assert set(made) == {0.1, 0.5, 2.0}
    for strength, (moved, own) in made.items():
        assert len(own) <= POINTS and len(moved) == 4 * len(own)
        noise, variances = moved - own.repeat(4, 1), own.var(0, correction=0)
        # a row's squared noise has mean m = strength * sum S_j and variance 2 strength^2 sum S_j^2: five sds of a mean
        expected = strength * variances.sum()
        bound = 5 * strength * (2 * variances.square().sum() / len(moved)).sqrt()
        assert abs(noise.square().sum(1).mean() - expected) < bound
        assert bound < 0.3 * expected  # no empty test: the schedule of a run would give a small part of it

from dataclasses import replace

import numpy as np
import pytest
import torch

from divaug.base.errors import DivaugError
from divaug.config import layers
from divaug.data.load import load_data
from divaug.latent.tables import all_tables
from divaug.report.latent import draw_feature_card, remarks, write_latent_report
from divaug.runs.embed import embed, untrained
from divaug.train.build import build_model

CONFIG = layers.resolve(
    recipe={"dataset": "digits"}, flags={"imbalance_factor": 5.0, "max_per_class": 20, "model": {"name": "whitened_cnn", "widths": [16]}}
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return load_data(CONFIG)


def test_embeddings_of_a_part_in_index_order(data):
    model = untrained(CONFIG, data)
    train, test = embed(model, data, "train"), embed(model, data, "test")
    assert train.labels.tolist() == data.train.labels.tolist() and test.split == "test"
    assert train.class_counts == tuple(data.cut.group_counts.tolist()) and train.class_names == tuple("0123456789")
    black = embed(model, data, "test", images=np.zeros_like(data.test.images))
    assert np.ptp(black.features, axis=0).max() < 1e-4 < np.ptp(test.features, axis=0).max()


def test_an_untrained_networks_normalisation_fits_its_pictures(data):
    model = untrained(CONFIG, data)
    norm = model.backbone.groups[0].norm1
    seen = []
    norm.register_forward_hook(lambda _, __, out: seen.append(out))
    embed(model, data, "train")
    out = torch.cat(seen).transpose(0, 1).flatten(1)
    assert out.mean(1).abs().max() < 0.05 and (out.std(1) - 1).abs().max() < 0.05
    assert norm.momentum == 0.1 and not model.training
    fresh = build_model(CONFIG, data.manifest)
    assert torch.equal(model.head.weight, fresh.head.weight)  # nothing was trained


def test_remarks_name_what_a_reader_must_know(data):
    train = embed(untrained(CONFIG, data), data, "train")
    space = replace(train, weight=None, bias=None, logits=None)  # with FE nearly every feature is in some top-10 of 16
    notes = remarks(space, all_tables(space, space))
    assert any("Saturated at m = 5" in note and "of the ceiling 16" in note for note in notes)
    assert any("Fewer than five training images" in note for note in notes)
    negative = replace(space, features=space.features - 1)
    assert any("Features can be negative" in note for note in remarks(negative, all_tables(space, space)))
    assert not any("negative" in note for note in remarks(train, all_tables(train, train)))


def test_a_feature_card_shows_the_maps_that_were_pooled(data, monkeypatch, tmp_path):
    model = untrained(CONFIG, data)
    train = embed(model, data, "train")
    seen = {}
    monkeypatch.setattr("divaug.figures.latent.feature_card", lambda path, *args: seen.update(args=args) or path)
    draw_feature_card(tmp_path / "x.png", model, data, train, 3, 10)
    pictures, maps, titles, heading = seen["args"]
    assert len(pictures) == len(maps) == 5 and heading.startswith("3 (")
    contributions = train.contributions(train.rows(3))
    top = np.argsort(-contributions.mean(0), kind="stable")[:5]
    for d, heat, title in zip(top, maps, titles, strict=True):
        assert title.startswith(f"feature {d}:")
        order = train.rows(3)[np.argsort(-contributions[:, d], kind="stable")[:5]]
        np.testing.assert_allclose(heat.mean((1, 2)), train.features[order, d], rtol=1e-4, atol=1e-6)


def test_a_backbone_without_maps_has_no_card(data, tmp_path):
    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = torch.nn.Flatten(), torch.nn.Linear(64, 10)

        def features(self, images):
            return self.backbone(images)

        def forward(self, images):
            return self.head(self.features(images))

    model = Flat()
    with pytest.raises(DivaugError, match="no activation maps"):
        draw_feature_card(tmp_path / "x.png", model, data, embed(model, data, "train"), 0, 5)


def test_maps_of_patches_are_not_taken_for_maps_of_features(data, tmp_path):
    """A vision transformer's only map (B, D, h, w) is that of its patches, before all layers."""

    class Patches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.norm = torch.nn.Conv2d(1, 16, 4, 4), torch.nn.LayerNorm(16)

        def forward(self, images):
            return self.norm(self.patch(images).flatten(2).transpose(1, 2)).mean(1)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = Patches(), torch.nn.Linear(16, 10)

        def features(self, images):
            return self.backbone(images)

        def forward(self, images):
            return self.head(self.features(images))

    model = Model()
    with pytest.raises(DivaugError, match="no activation maps"):
        draw_feature_card(tmp_path / "x.png", model, data, embed(model, data, "train"), 0, 5)
    _, figures = write_latent_report(tmp_path / "latent", model, data, k=5)
    assert figures and not list((tmp_path / "latent").glob("card_*.png"))  # the rest of the report is written


def test_the_map_that_is_pooled_is_shown_where_a_module_pools_it(data, tmp_path, monkeypatch):
    """As in timm: the pooling's own output is (B, D, 1, 1), and no map."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            layers = torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
            self.backbone, self.head = torch.nn.Sequential(*layers), torch.nn.Linear(16, 10)

        def features(self, images):
            return self.backbone(images)

        def forward(self, images):
            return self.head(self.features(images))

    model, seen = Model(), {}
    monkeypatch.setattr("divaug.figures.latent.feature_card", lambda path, *args: seen.update(args=args) or path)
    draw_feature_card(tmp_path / "x.png", model, data, embed(model, data, "train"), 0, 5)
    assert all(heat.shape[1:] == (6, 6) for heat in seen["args"][1])

"""Breadth by groups of one's own images: few or many slides."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from divaug.base.errors import ConfigError, DataError
from divaug.study.exchange.plan import Arm, read_plan
from divaug.study.exchange.rows import read_rows
from divaug.study.exchange.slides import SlideImages, SlideSource, table_of
from divaug.study.exchange.study import rows_of, run_study

PLAN = """
title = "slides"
analysis = 1
[preset]
preset = "fast"
model = { name = "whitened_cnn", widths = [4] }
image_size = 8
batch_size = 20
precision = "fp32"
[[design]]
dataset = "csv"
name = "slides"
table = "cells/cells.csv"
manipulated = "many"
cuts = "0-1"
n = 8
kinds = 8
steps = 8
arms.A = { number = 1.0, breadth = 0.5 }
arms.B = { number = 1.0, breadth = 1.0 }
arms.C = { number = 2.0, breadth = 0.5 }
arms.D = { number = 2.0, breadth = 1.0 }
"""


@pytest.fixture
def plan(tmp_path):
    """In the working folder: data/cells with 120 images of a class on 20 slides, and 30 of another on 15."""
    folder, found, rows = tmp_path / "data" / "cells", load_digits(), []
    folder.mkdir(parents=True)
    for c, (name, n, slides) in enumerate((("many", 120, 20), ("other", 30, 15))):
        for k, i in enumerate(np.flatnonzero(found.target == c)[:n]):
            Image.fromarray((found.images[i] * 15.9).astype(np.uint8)).save(folder / f"{name}{k}.png")
            rows.append((f"{name}{k}.png", name, f"slide {k % slides}"))
    with (folder / "cells.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    (tmp_path / "plan.toml").write_text(PLAN)
    return read_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 8", 'steps = 8\noutcome = "b2"', "slides are measured on the test part"),
        ("steps = 8", "steps = 8\nrefuse = 0.1", "slides have no space, so encoder, refuse and doses have no effect"),
        ("steps = 8", 'steps = 8\nencoder = "0"', "slides have no space"),
        (
            "arms.D = { number = 2.0, breadth = 1.0 }",
            'arms.D = { number = 2.0, dose = "high" }',
            "slides have no space",
        ),
    ],
)
def test_what_has_no_effect_on_slides_is_refused(old, new, said, tmp_path):
    assert old in PLAN
    (tmp_path / "plan.toml").write_text(PLAN.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        read_plan(tmp_path / "plan.toml")


def images_of(plan, cut):
    from dataclasses import replace

    design = plan.designs[0]
    config = plan.config(design, Arm(), counts=(1,), epochs=1, seed=cut)
    source = SlideSource(replace(config, path=str(table_of(design).resolve())), cut)
    return SlideImages(source, design, cut)


def test_arms_draw_from_few_or_many_slides_and_leave_other_classes_alone(plan):
    for cut in (0, 1):
        images = images_of(plan, cut)
        train = images.source.dataset.train
        for arm in plan.designs[0].arms.values():
            rows = images.training(arm)
            own = rows[train.labels[rows] == 0]
            assert len(set(own.tolist())) == len(own) == round(8 * arm.number)
            allowed = images.narrow if arm.breadth < 1 else images.broad
            assert set(train.groups[own]) <= set(allowed) and len(set(allowed)) == (4 if arm.breadth < 1 else 8)
            assert set(rows[train.labels[rows] == 1]) == set(np.flatnonzero(train.labels == 1))
        assert set(images.narrow) < set(images.broad)
        assert not set(images.part.groups) & set(train.groups)
        assert np.isnan(images.kept()).all()
    first, second = images_of(plan, 0), images_of(plan, 1)
    assert set(first.part.groups) != set(second.part.groups) and first.digest() != second.digest()


def test_rows_of_slides(plan, tmp_path):
    run_study(plan, tmp_path / "runs")
    rows = read_rows(rows_of(plan, "csv"))
    assert len(rows) == 8 and set(rows["status"]) == {"ok"} and set(rows["steps"]) == {8}
    assert rows["vendi_u"].isna().all() and rows["recall_kept"].isna().all()
    assert rows["tail_prior_corrected"].between(0, 1).all() and rows.groupby("cut")["kinds"].nunique().tolist() == [
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ("cells/cells.csv", "cells/none.csv", DataError, "none.csv not found; looked in: data"),
        ('"many"', '"several"', DataError, "no class 'several'; there are many, other"),
        ("kinds = 8", "kinds = 40", DataError, "training groups, 40 needed"),
        ("n = 8", "n = 60", DataError, "images to draw"),
        ('table = "cells/cells.csv"', "", ConfigError, "table goes with slides"),
        ('manipulated = "many"', "", ConfigError, "manipulated goes with slides"),
    ],
)
def test_what_cannot_be_drawn_is_named(plan, tmp_path, old, new, error, said):
    (tmp_path / "plan.toml").write_text(PLAN.replace(old, new))
    with pytest.raises(error, match=said):
        run_study(read_plan(tmp_path / "plan.toml"), tmp_path / "runs")

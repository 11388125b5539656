"""Figures with any class names, and with 2 to 1,000 classes."""

import numpy as np
import pytest
from PIL import Image

from divaug.figures import style
from divaug.figures.compare import Series, draw_comparison
from divaug.figures.latent import curves, gaps, heat_map, train_against_test
from divaug.figures.run import figures_of

ODD = [
    "$x$",
    "US $5 \\foo$ note",
    "y_$",
    "_hidden",
    "日本",
    "<b>&",
    "a" * 300,
    "two\nlines",
    "%d {x}",
    "ü ±",
    "",
    "\x07",
]


def manifest(names):
    counts = [int(x) for x in np.geomspace(5000, 5, len(names))]
    return {"class_names": names, "counts": counts}


def rows(n, rng):
    return [
        {
            "epoch": e,
            "per_class": {"test/recall": rng.random(n).tolist(), "views/number": (rng.random(n) * 64).tolist()},
        }
        for e in range(3)
    ]


def confusions(n):
    matrix = np.random.default_rng(1).integers(0, 50, (n, n))
    matrix[0] = 0  # no test image
    return matrix


def draw_run(folder, rows, manifest):
    for name, draw in figures_of(rows, manifest, lambda: confusions(len(manifest["class_names"]))).items():
        draw(folder / name)


@pytest.mark.parametrize("names", [ODD, ODD[:2]])
def test_any_name_can_be_drawn(tmp_path, names, capfd):
    rng = np.random.default_rng(0)
    draw_run(tmp_path, rows(len(names), rng), manifest(names))
    heat_map(tmp_path / "heat.png", rng.random((len(names), 9)), names, "$title$")
    at = np.arange(3)
    lines = [(name, "tail", at, rng.random(3)) for name in names]
    curves(tmp_path / "curves.png", lines, x="$x", y="y", title="t")
    train_against_test(
        tmp_path / "tt.png", rng.random((len(names), 3)), rng.random((len(names), 3)), names=names, what="w$"
    )
    fair = rng.random((len(names), 3))
    gaps(tmp_path / "gaps.png", raw=fair[:, 0], fair=fair, null=fair[:, 1], names=names)
    assert len(list(tmp_path.glob("*.png"))) == 8
    assert "Traceback" not in capfd.readouterr().err


def test_missing_characters_are_said_once(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(style, "_said", set())
    monkeypatch.setattr(style, "_characters", lambda file, wanted: {c for c in wanted if c.isascii()})
    for name in ("one.png", "two.png"):
        made, axis = style.figure(2.0, 2.0)
        axis.set_title("\U000131a0")  # a hieroglyph
        style.save(made, tmp_path / name)
    assert capfd.readouterr().err.count("no installed font has") == 1


def test_text_is_what_was_written(tmp_path):
    made, axis = style.figure(2.0, 2.0)
    axis.set_title("$\\alpha$")
    style.save(made, tmp_path / "a.png")
    assert axis.title.get_text() == "$\\alpha$" and not axis.title.get_parse_math()
    assert style.named("_x") == " _x" and style.named("a\nb") == "a b" and len(style.named("a" * 99)) == 28


@pytest.mark.parametrize("n", [2, 10, 30, 31, 100, 1000])
def test_figures_keep_a_width_that_can_be_read(tmp_path, n):
    rng = np.random.default_rng(0)
    names = [f"class {c}" for c in range(n)]
    draw_run(tmp_path, rows(n, rng), manifest(names))
    recall = rng.random((3, n))
    recall[:, n // 2] = np.nan
    series = [Series(label, recall, None, {}) for label in ("erm", "cmo")]
    draw_comparison(tmp_path, series, names, np.array(manifest(names)["counts"]), 5, 64)
    for file in ("recall.png", "recall_by_class.png"):
        with Image.open(tmp_path / file) as drawn:
            width, height = drawn.size
        assert width <= 2700 and height <= 1500, (file, width, height)


def test_the_worst_and_the_best_of_many_are_named():
    _, axis = style.figure(8.0, 4.0)
    values = np.linspace(10, 90, 50)
    values[7], values[30], values[3] = 1.0, 99.0, np.nan
    style.by_rank(axis, [values], np.arange(50, 0, -1), [f"c{c}" for c in range(50)])
    title = axis.get_title(loc="left").replace("\n", " ")
    assert title.startswith("worst: c7 (1 %, n = 43), c0 (10 %, n = 50), c1 (12 %")
    assert "best: c30 (99 %, n = 20), c49 (90 %, n = 1), c48" in title and "c3 " not in title
    line = next(line for line in axis.get_lines() if line.get_linestyle() == "-")
    window = [v for v in values[8:13] if not np.isnan(v)]
    assert line.get_ydata()[10] == pytest.approx(np.mean(window))
    assert line.get_ydata()[0] == pytest.approx(np.mean([values[0], values[1], values[2]]))  # the border: fewer classes


@pytest.mark.parametrize("scale", ["log", "symlog"])
def test_logarithmic_axes_have_plain_numbers(tmp_path, scale):
    made, axis = style.figure(4.0, 2.0)
    axis.plot([1, 10, 1000], [1, 2, 3])
    axis.set_xscale(scale)
    style.save(made, tmp_path / "a.png")
    assert {"10", "1000"} <= {label.get_text() for label in axis.get_xticklabels()}

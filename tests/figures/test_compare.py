"""Figures of a comparison of more methods than fit side by side at one class."""

import numpy as np
import pytest

from divaug.figures import compare
from divaug.figures.compare import MOST_SERIES, Series, draw_comparison

M, CEILING = 5, 64


def many(n, classes, *, rarefied=True):
    rng = np.random.default_rng(2)
    return [
        Series(
            f"m{i}",
            rng.random((2, classes)),
            rng.random((2, classes)) * 40 if rarefied else None,
            {"head": rng.random((2, 3))},
        )
        for i in range(n)
    ]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw and return the figures by file name."""

    def draw(series, counts):
        made = {}
        monkeypatch.setattr(compare, "save", lambda figure, path: made.update({path.name: figure}))
        draw_comparison(tmp_path, series, [f"c{c}" for c in range(len(counts))], np.array(counts), M, CEILING)
        return made

    return draw


@pytest.mark.parametrize("classes", [3, 40])
def test_many_methods_are_rows_of_a_map(drawn, classes):
    series, counts = many(MOST_SERIES + 1, classes), np.arange(classes) + 1  # the last class is the largest
    series[4].recall[0, 1] = np.nan  # one seed has no test image of the class
    series[2].recall[:, 0] = np.nan  # none has
    axis = drawn(series, counts)["recall_by_class.png"].axes[0]
    image = np.ma.filled(axis.get_images()[0].get_array(), np.nan)
    means = {}
    for s in series:
        columns = [[seed[c] for seed in s.recall if not np.isnan(seed[c])] for c in reversed(range(classes))]
        means[s.label] = [100 * np.mean(values) if values else np.nan for values in columns]
    order = sorted(means, key=lambda label: -np.nanmean(means[label]))
    assert [tick.get_text() for tick in axis.get_yticklabels()] == order
    np.testing.assert_allclose(image, [means[label] for label in order])
    written = [text.get_text() for text in axis.texts]
    flat = [value for label in order for value in means[label]]
    assert written == (["" if np.isnan(v) else f"{v:.0f}" for v in flat] if classes == 3 else [])
    ticks = [tick.get_text() for tick in axis.get_xticklabels()]
    assert ticks[0] == ("c2 (3)" if classes == 3 else "1\n(40)") and ticks[-1] == (
        "c0 (1)" if classes == 3 else "40\n(1)"
    )


def test_as_many_as_fit_stay_side_by_side_in_their_class(drawn):
    axis = drawn(many(MOST_SERIES, 3), [3, 2, 1])["recall_by_class.png"].axes[0]
    assert not axis.get_images()
    lines = [line for line in axis.get_lines() if len(line.get_xdata()) == 3]
    places = np.array([line.get_xdata() for line in lines])
    assert (np.abs(places - np.arange(3)) < 0.5).all()


def test_each_method_has_a_panel_with_all_others_behind(drawn):
    series = many(MOST_SERIES + 2, 3)
    series[5] = Series("without", series[5].recall, None, series[5].growth)
    figure = drawn(series, [3, 2, 1])["accuracy_diversity.png"]
    shown = [s for s in series if s.rarefied is not None]
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == [s.label for s in shown]
    everyone = [(x, 100 * y) for s in shown for x, y in zip(s.rarefied.mean(0), s.recall.mean(0), strict=True)]
    for axis, s in zip(panels, shown, strict=True):
        behind, own = (collection.get_offsets() for collection in axis.collections)
        np.testing.assert_allclose(behind, everyone)
        np.testing.assert_allclose(own, np.column_stack([s.rarefied.mean(0), 100 * s.recall.mean(0)]))

from dataclasses import replace

import numpy as np
import pytest

from divaug.latent.instances import descending_order, fixed_top_k
from divaug.latent.rarefaction import rarefied_number, view_richness
from divaug.latent.statistics import class_statistics, contributions_and_sets, instance_sets
from divaug.latent.tables import (
    COLUMNS,
    all_tables,
    curves_table,
    diversity_table,
    gap_table,
    magnitude_table,
    neighbour_table,
    rarefaction_table,
    statistics_table,
    views_table,
)

from .golden import bundle, random_bundle

TRAIN = random_bundle(1, counts=[60, 30, 12, 6], d=20)
TEST = random_bundle(2, n=80, d=20, class_counts=(60, 30, 12, 6), split="test")


def _bare(embeddings):
    return replace(embeddings, weight=None, bias=None, logits=None)


def value(table, measure, c, **where):
    rows = table[(table["measure"] == measure) & (table["class"] == c)]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope="module")
def tables():
    return all_tables(TRAIN, TEST, 5)


def test_every_table_is_tidy(tables):
    assert set(tables) == {"statistics", "rarefaction", "curves", "diversity", "gaps", "magnitude", "neighbours"}
    for table in tables.values():
        assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS) and "split" in table
        assert set(table["tercile"]) <= {"head", "mid", "tail", "all"} and len(table)
        keys = [c for c in ("class", "group", "K", "measure", "split", "m", "x") if c in table]
        assert not table.duplicated(keys).any()


def test_statistics_are_those_of_each_class_group_and_k():
    table = statistics_table(TEST, (5, "adaptive"))
    for c in range(4):
        for group in ("member", "TP", "FN", "FP"):
            for k in (5, "adaptive"):
                found = class_statistics(TEST, c, k=k, group=group, ce_class=c)
                row = value(table, "number", c, group=group, K=str(k))
                assert row["n"] == found.n and (row["value"] == found.number or np.isnan(row["value"]))
                assert value(table, "per_image", c, group=group, K=str(k))["value"] == pytest.approx(
                    found.per_image, nan_ok=True
                )


def test_rarefied_numbers_come_with_their_ceiling_and_say_when_it_is_used_up():
    table = rarefaction_table(TRAIN, 5)
    assert sorted(set(table["m"].dropna())) == [5, 6, 20]
    for c in range(4):
        rows = TRAIN.rows(c)
        incidence = instance_sets(TRAIN, rows, TRAIN.contributions(rows), 5).sum(0)
        for m in (5, 6, 20):
            row = value(table, f"rarefied_{m}", c)
            assert row["value"] == pytest.approx(rarefied_number(incidence, np.array(len(rows)), m), nan_ok=True)
            assert row["ceiling"] == min(20, 5 * m) and row["largest_common"] == (m == 6)
            assert row["saturated"] == (row["value"] > 0.9 * row["ceiling"])
    assert np.isnan(value(table, "rarefied_20", 3)["value"])  # six images
    assert value(rarefaction_table(_bare(random_bundle(n=400)), 12), "rarefied_20", 0)["saturated"]


def test_curves_end_where_the_raw_number_is():
    table = curves_table(TRAIN, 5)
    for c in range(4):
        k_curve = table[(table["measure"] == "k_curve") & (table["class"] == c)]
        rarefied = table[(table["measure"] == "rarefaction_curve") & (table["class"] == c)]
        assert k_curve["x"].tolist() == list(range(1, 21))
        number = k_curve[k_curve["x"] == 5]["value"].iloc[0]
        assert rarefied["value"].iloc[-1] == pytest.approx(number) and rarefied["x"].iloc[-1] == TRAIN.counts[c]


def test_diversity_is_at_one_size_with_classes_too_small_left_undefined():
    table = diversity_table(TRAIN, TEST, size=12)
    assert set(table["size"]) == {12}
    assert np.isnan(value(table, "vendi", 3)["value"])
    row = value(table, "vendi", 0)
    assert row["low"] <= row["value"] <= row["high"] and row["low"] < row["high"]
    assert value(table, "nc1", -1)["n"] == 36
    assert set(diversity_table(TRAIN)["size"]) == {6}
    assert diversity_table(TRAIN, TEST, size=12).equals(table)  # seeded


def test_gaps_and_magnitudes_of_every_class():
    gaps = gap_table(TRAIN, TEST, repeats=20)
    row = value(gaps, "gap_matched", 3)
    assert row["n"] == 6 and np.isfinite([row["low"], row["high"], row["null"]]).all()
    missed = gaps[(gaps["measure"] == "gap_raw") & (gaps["group"] == "FN")]["value"]
    assert missed.notna().any() and (missed.dropna() >= 0).all()
    magnitudes = magnitude_table(TRAIN, TEST, 5)
    assert value(magnitudes, "test_recall", 0)["value"] == pytest.approx(
        (TEST.predictions[TEST.labels == 0] == 0).mean()
    )


def test_neighbour_shares():
    table = neighbour_table(TRAIN)
    for c in range(4):
        assert sum(value(table, name, c)["value"] for name in ("safe", "border", "rare", "outlier")) == pytest.approx(1)
    adversaries = table[table["measure"].str.startswith("adversary:")]
    assert adversaries.groupby("class")["value"].sum().to_numpy() == pytest.approx(1)
    assert value(table, "weight_norm", 2)["value"] == pytest.approx(np.linalg.norm(TRAIN.weight[2]))


def test_an_encoders_space_has_the_same_tables_without_predictions():
    found = all_tables(_bare(TRAIN), _bare(TEST), 5)
    assert set(found["statistics"]["group"]) == {"member"} and set(found["statistics"]["K"]) == {"", "1", "5", "10"}
    assert not found["neighbours"]["measure"].str.startswith("adversary").any()
    assert "test_recall" not in set(found["magnitude"]["measure"])


def test_a_k_above_d_is_left_out():
    table = statistics_table(bundle(), (3, 10))
    assert set(table[table["measure"] == "number"]["K"]) == {"3"}


def test_views_are_named_and_need_their_pictures():
    with pytest.raises(ValueError, match="the image of which each row is a view"):
        views_table(TRAIN)
    views = replace(_bare(TRAIN), images=np.arange(108) // 6)
    table = views_table(views, 5, (3,))
    assert all(m.endswith("_views") for m in table["measure"])
    sets = fixed_top_k(TRAIN.features[:60].astype(float), 5)
    within, between = view_richness(sets, np.arange(60) // 6, 3)
    assert value(table, "within_3_views", 0)["value"] == pytest.approx(within)
    assert value(table, "between_3_views", 0)["value"] == pytest.approx(between)
    assert np.isnan(value(table, "between_3_views", 3)["value"])  # one image


@pytest.mark.parametrize("at_once", [1, 50, 10**6])
def test_images_sorted_some_at_a_time_have_the_same_sets(at_once, monkeypatch):
    """Of every K, for a class's images and for those that are taken for it; sets by the plain sort of all of them."""
    monkeypatch.setattr("divaug.latent.statistics._AT_ONCE", at_once)
    for rows, ce_class in ((TRAIN.rows(0), "true"), (TRAIN.rows(0, "FP"), 0)):
        values, sets = contributions_and_sets(TRAIN, rows, (1, 5, "adaptive"), ce_class)
        assert (values == TRAIN.contributions(rows, ce_class)).all() and len(rows) > 3
        for k in (1, 5, "adaptive"):
            assert (sets[k] == instance_sets(TRAIN, rows, values, k, ce_class)).all()


def test_sets_found_by_a_partition_are_those_of_a_stable_sort():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, d = rng.integers(1, 6), int(rng.integers(1, 12))
        k, values = int(rng.integers(1, d + 1)), rng.integers(-2, 4, (n, d)).astype(float)  # many ties
        values[rng.random((n, d)) < 0.05] = np.nan  # belongs to no set
        order = descending_order(values)
        assert (fixed_top_k(values, k) == fixed_top_k(values, k, order)).all()

"""Tidy tables of all measurements: one row a class and measure, with n, group, K, value, interval and null."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from divaug.latent.diversity import class_measures, density_and_coverage, nc1, size_matched
from divaug.latent.embeddings import INSTANCE_GROUPS, Embeddings
from divaug.latent.gaps import magnitude_shift, matched, mean_shift, range_gap
from divaug.latent.head_change import weight_norms
from divaug.latent.instances import descending_order, k_curve
from divaug.latent.neighbours import ARCHETYPES, adversary_shares, archetypes, nearest
from divaug.latent.rarefaction import (
    SATURATED,
    ceiling,
    chao2,
    common_sizes,
    rarefaction_curve,
    rarefied_number,
    sample_coverage,
    view_richness,
)
from divaug.latent.statistics import ADAPTIVE, instance_sets, participation_ratio, statistics_of, top_share

COLUMNS = ("class", "class_name", "tercile", "n", "group", "K", "measure", "value", "low", "high", "null")
MAX_QUERIES = 5000  # pictures whose neighbours are looked up, over all classes,
MAX_PRODUCTS = 2.5e11  # as long as queries * N * D stays below this
CURVE_POINTS = 64


class _Rows:
    """Collects rows of a tidy table."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self.rows: list[dict[str, Any]] = []

    def add(
        self, c: int | None, measure: str, value: float, *, n: int, group: str = "member", k: Any = None, **more: Any
    ) -> None:
        of_class = (
            {"class": -1, "class_name": "all", "tercile": "all"}
            if c is None
            else {"class": c, "class_name": self.embeddings.class_names[c], "tercile": self.embeddings.terciles[c]}
        )
        row = {**of_class, "n": n, "group": group, "K": "" if k is None else str(k), "measure": measure}
        self.rows.append({**row, "value": value, **more})

    def each_class(self, work: Callable[[int, "_Rows"], None]) -> None:
        """Do the work of every class, several at once: numpy leaves the interpreter free meanwhile."""

        def one(c: int) -> list[dict[str, Any]]:
            own = _Rows(self.embeddings)
            work(c, own)
            return own.rows

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for rows in pool.map(one, range(self.embeddings.num_classes)):
                self.rows += rows

    def frame(self, *columns: str) -> Any:
        import pandas as pd

        return pd.DataFrame(self.rows, columns=[*COLUMNS, *columns]).assign(split=self.embeddings.split)


def statistics_table(
    embeddings: Embeddings,
    ks: Sequence[int | str] = (10, ADAPTIVE),
    groups: Sequence[str] = INSTANCE_GROUPS,
    ce_class: str | int = "true",
) -> Any:
    """Return number, size, magnitude and concentration of every class's features, by instance group and K.

    In an encoder's space only ``member`` and fixed K exist; the others are left out. Rows of ``group`` FN are what the
    authors' code calls "FP". ``number`` grows with n: compare ``rarefied_M`` of ``rarefaction_table``.

    Args:
        embeddings: The pictures.
        ks: K of the pictures' sets; a number larger than D is left out.
        groups: Instance groups.
        ce_class: Whose weights; see ``Embeddings.contributions``. FP are measured with the class's own weights.
    """
    out = _Rows(embeddings)
    if not embeddings.has_head:
        ks, groups = [k for k in ks if k != ADAPTIVE], ["member"]
    ks = [k for k in ks if k == ADAPTIVE or int(k) <= embeddings.dimensions]

    def of_class(c: int, out: _Rows) -> None:
        members = embeddings.rows(c)
        measured = _contributions(embeddings, members, ks, ce_class)
        recognised = embeddings.predictions[members] == c if embeddings.has_head else np.ones(len(members), dtype=bool)
        for group in groups:
            contributions, sets = measured
            keep = np.ones(len(members), dtype=bool)
            if group == "FP":
                contributions, sets = _contributions(embeddings, embeddings.rows(c, "FP"), ks, c)
                keep = np.ones(len(contributions), dtype=bool)
            elif group != "member":
                keep = recognised == (group == "TP")
            contributions = contributions[keep]
            for k in ks:
                found = statistics_of(contributions, sets[k][keep])
                values = {
                    "number": found.number,
                    "number_above_0.1": found.number_above(0.1),
                    "number_above_0.5": found.number_above(0.5),
                    "per_image": found.per_image,
                    "effective": found.effective,
                    "frequency_magnitude_r": found.frequency_magnitude_correlation,
                }
                for measure, value in values.items():
                    out.add(c, measure, float(value) if found.n else float("nan"), n=found.n, group=group, k=k)
            if not len(contributions):
                continue
            magnitude = contributions.mean(0)
            descending = np.sort(magnitude)[::-1]
            out.add(c, "magnitude_top1", float(descending[0]), n=len(contributions), group=group, k=1)
            out.add(c, "magnitude", float(descending[:10].mean()), n=len(contributions), group=group, k=10)
            out.add(c, "participation_ratio", float(participation_ratio(magnitude)), n=len(contributions), group=group)
            out.add(c, "top_share", top_share(magnitude), n=len(contributions), group=group)

    out.each_class(of_class)
    return out.frame()


def _contributions(
    embeddings: Embeddings, rows: np.ndarray, ks: Sequence[int | str], ce_class: str | int
) -> tuple[np.ndarray, dict[int | str, np.ndarray]]:
    """Return contributions and the sets at every K, with one sort for all fixed K."""
    values = embeddings.contributions(rows, ce_class)
    order = descending_order(values)
    return values, {k: instance_sets(embeddings, rows, values, k, ce_class, order) for k in ks}


def rarefaction_table(embeddings: Embeddings, k: int = 10, sizes: Sequence[int] = (5, 20)) -> Any:
    """Return the rarefied number of top-K features of every class at common sizes, how far it is used up, and Chao2.

    Beside the tidy columns: ``m``; ``ceiling`` min(D, m * K); ``used``, the share of it; ``saturated``, more than 90 %
    (little can be compared there); ``largest_common``, whether m is the largest size that every class reaches.
    """
    out = _Rows(embeddings)
    largest = int(embeddings.counts[embeddings.counts > 0].min())

    def of_class(c: int, out: _Rows) -> None:
        rows = embeddings.rows(c)
        n = len(rows)
        incidence = instance_sets(embeddings, rows, embeddings.contributions(rows), k).sum(0)
        for m in common_sizes(embeddings.counts, sizes):
            value, top = float(rarefied_number(incidence, np.array(n), m)), ceiling(embeddings.dimensions, m, k)
            used = value / top
            out.add(
                c, f"rarefied_{m}", value, n=n, k=k, m=m, ceiling=top, used=used, saturated=used > SATURATED,
                largest_common=m == largest,
            )  # fmt: skip
        out.add(c, "number", float((incidence > 0).sum()), n=n, k=k, ceiling=ceiling(embeddings.dimensions, n, k))
        out.add(c, "sample_coverage", sample_coverage(incidence, n), n=n, k=k)
        out.add(c, "chao2", chao2(incidence, n), n=n, k=k)

    out.each_class(of_class)
    return out.frame("m", "ceiling", "used", "saturated", "largest_common")


def curves_table(embeddings: Embeddings, k: int = 10) -> Any:
    """Return for every class the number of distinct features over K (``k_curve``) and over m (``rarefaction_curve``).

    Column ``x`` is K or m. For D above 128 the K-curve is thinned to 64 points on a logarithmic scale.
    """
    out = _Rows(embeddings)
    d = embeddings.dimensions
    points = np.arange(1, d + 1) if d <= 128 else np.unique(np.geomspace(1, d, CURVE_POINTS).round().astype(int))

    def of_class(c: int, out: _Rows) -> None:
        rows = embeddings.rows(c)
        values = embeddings.contributions(rows)
        order = descending_order(values)
        curve = k_curve(values, order)
        for x in points:
            out.add(c, "k_curve", float(curve[x - 1]), n=len(rows), k=int(x), x=int(x))
        incidence = instance_sets(embeddings, rows, values, k, order=order).sum(0)
        for x, value in zip(*rarefaction_curve(incidence, len(rows)), strict=True):
            out.add(c, "rarefaction_curve", float(value), n=len(rows), k=k, x=int(x))

    out.each_class(of_class)
    return out.frame("x")


def diversity_table(
    embeddings: Embeddings,
    held_out: Embeddings | None = None,
    size: int | None = None,
    *,
    draws: int = 20,
    seed: int = 0,
) -> Any:
    """Return the rival diversity measures of every class at one size, with their quantiles over subsets.

    Args:
        embeddings: Training pictures.
        held_out: Test pictures in the same space, for ``density`` and ``coverage``.
        size: Pictures in each subset; by default the smallest class's number, but at least 5. Classes with fewer are
            NaN, except that the rows say so.
        draws: Subsets drawn of each larger class.
        seed: Seed of the subsets.
    """
    out = _Rows(embeddings)
    counts = embeddings.counts
    size = max(5, int(counts[counts > 0].min())) if size is None else size
    names = ["vendi", "effective_rank", "participation_ratio", "variance", "mean_cosine"]
    if held_out is not None:
        names += ["density", "coverage"]
    kept = []
    for c in range(embeddings.num_classes):
        rng = np.random.default_rng([seed, c])
        features = embeddings.features[embeddings.rows(c)]
        if len(features) < size:
            for name in names:
                out.add(c, name, float("nan"), n=len(features), size=size)
            continue
        kept.append(rng.choice(embeddings.rows(c), size, replace=False))
        others = None if held_out is None else held_out.features[held_out.rows(c)]

        def measures(rows: np.ndarray, others: np.ndarray | None = others) -> dict[str, float]:
            return class_measures(rows) | ({} if others is None else density_and_coverage(others, rows))

        for name, (value, low, high) in size_matched(features, size, measures, rng, draws).items():
            out.add(c, name, value, n=len(features), low=low, high=high, size=size)
    if len(kept) > 1:
        rows = np.concatenate(kept)
        out.add(None, "nc1", nc1(embeddings.features[rows], embeddings.labels[rows]), n=len(rows), size=size)
    return out.frame("size")


def gap_table(train: Embeddings, test: Embeddings, *, repeats: int = 200, seed: int = 0) -> Any:
    """Return the train-test gap of every class: raw, of quantiles, and at equal size with its null; and mean shift.

    ``gap_raw`` follows from the class's size alone (see ``range_gap``); ``gap_matched`` is the one to compare, with
    ``null`` what equal parts of the pooled pictures show.
    """
    out = _Rows(train)
    for c in range(train.num_classes):  # one after another: threads only get in the way of many small draws
        ours = train.features[train.rows(c)]
        for group in ("member", "TP", "FN") if test.has_head else ("member",):
            theirs = test.features[test.rows(c, group)]
            n = min(len(ours), len(theirs))
            out.add(c, "gap_raw", float(range_gap(ours, theirs)), n=len(ours), group=group)
            if group != "member":
                continue
            out.add(c, "gap_quantile", float(range_gap(ours, theirs, 0.01)), n=len(ours), group=group)
            rng, statistics = np.random.default_rng([seed, c]), {"gap": range_gap, "mean_shift": mean_shift}
            for measure, found in matched(statistics, ours, theirs, rng, repeats).items():
                out.add(c, f"{measure}_matched", found.value, n=n, low=found.low, high=found.high, null=found.null)
    return out.frame()


def magnitude_table(train: Embeddings, test: Embeddings, k: int = 10) -> Any:
    """Return the train-test comparison of the class top-K's magnitude in its non-circular forms; see ``gaps``."""
    out = _Rows(train)

    def of_class(c: int, out: _Rows) -> None:
        found = magnitude_shift(train, test, c, k)
        values = {
            "test_over_train_ce": found.ce, "test_over_train_fe": found.fe, "shape_distance": found.shape,
            "train_magnitude": found.train_magnitude, "train_margin": found.train_margin,
            "test_margin": found.test_margin,
        }  # fmt: skip
        for measure, value in values.items():
            out.add(c, measure, value, n=int(train.counts[c]), k=k)
        if test.has_head:
            n = int(test.counts[c])
            recall = len(test.rows(c, "TP")) / n if n else float("nan")
            out.add(c, "test_recall", recall, n=n)

    out.each_class(of_class)
    return out.frame()


def neighbour_table(embeddings: Embeddings, *, seed: int = 0) -> Any:
    """Return the shares of archetypes of every class, the adversaries of its missed pictures, and weight norms.

    At most ``MAX_QUERIES`` pictures are looked up (fewer where N * D is above 5e7), the same number of every class as
    far as it has them; n says how many. Their neighbours are searched among all pictures. ``adversary:NAME`` rows are
    the shares of other classes.
    """
    out = _Rows(embeddings)
    queries = min(MAX_QUERIES, int(MAX_PRODUCTS / embeddings.features.size))
    each = max(1, queries // embeddings.num_classes)
    groups = ("member", "FN") if embeddings.has_head else ("member",)
    looked_up = {
        (c, group): _at_most(embeddings.rows(c, group), each, seed, c)
        for c in range(embeddings.num_classes)
        for group in groups
    }
    queries = np.concatenate(list(looked_up.values()))
    neighbours = nearest(embeddings.features, queries)
    ends = np.cumsum([len(rows) for rows in looked_up.values()])[:-1]
    for ((c, group), rows), found in zip(looked_up.items(), np.split(neighbours, ends), strict=True):
        if len(rows) and group == "member":
            share = np.bincount(archetypes(embeddings.labels, rows, found), minlength=len(ARCHETYPES)) / len(rows)
            for name, value in zip(ARCHETYPES, share, strict=True):
                out.add(c, name, float(value), n=len(rows))
        elif len(rows):
            for other, value in enumerate(adversary_shares(embeddings.labels, found, c, embeddings.num_classes)):
                if value > 0:
                    out.add(c, f"adversary:{embeddings.class_names[other]}", float(value), n=len(rows), group="FN")
    if embeddings.weight is not None:
        for c, norm in enumerate(weight_norms(embeddings.weight)):
            out.add(c, "weight_norm", float(norm), n=int(embeddings.counts[c]))
    return out.frame()


def views_table(embeddings: Embeddings, k: int = 10, sizes: Sequence[int] = (5, 20)) -> Any:
    """Return the richness of augmented views by class; every measure's name says that it is of views.

    ``rarefied_M_views`` is expected in M views drawn from all of them, which are no independent pictures;
    ``within_M_views`` in M views of one picture, ``between_M_views`` in one view each of M pictures.

    Args:
        embeddings: Views, with ``images`` naming the picture of each.
        k: K of the sets.
        sizes: M.

    Raises:
        ValueError: The bundle does not say which picture a row is a view of.
    """
    if embeddings.images is None:
        raise ValueError("views need embeddings.images: the picture of which each row is a view")
    images, out = embeddings.images, _Rows(embeddings)

    def of_class(c: int, out: _Rows) -> None:
        rows = embeddings.rows(c)
        if not len(rows):
            return
        sets = instance_sets(embeddings, rows, embeddings.contributions(rows), min(k, embeddings.dimensions))
        for m in sizes:
            within, between = view_richness(sets, images[rows], m)
            whole = float(rarefied_number(sets.sum(0), np.array(len(rows)), m))
            for name, value in (("rarefied", whole), ("within", within), ("between", between)):
                out.add(c, f"{name}_{m}_views", value, n=len(rows), k=k, m=m)

    out.each_class(of_class)
    return out.frame("m")


def _at_most(rows: np.ndarray, most: int, seed: int, c: int) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(np.random.default_rng([seed, c]).choice(rows, most, replace=False))


def all_tables(train: Embeddings, test: Embeddings, k: int = 10, *, seed: int = 0) -> dict[str, Any]:
    """Return every table of a model's training and test pictures, by name: the full report at the end of a run."""
    import pandas as pd

    both = (train, test)
    return {
        "statistics": pd.concat([statistics_table(e, (k, ADAPTIVE)) for e in both], ignore_index=True),
        "rarefaction": pd.concat([rarefaction_table(e, k) for e in both], ignore_index=True),
        "curves": curves_table(train, k),
        "diversity": diversity_table(train, test, seed=seed),
        "gaps": gap_table(train, test, seed=seed),
        "magnitude": magnitude_table(train, test, k),
        "neighbours": neighbour_table(train, seed=seed),
    }

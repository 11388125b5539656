"""Tidy tables of all measurements: one row per class and measure, with n, group, K, value, interval and null."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from divaug.latent._rows import COLUMNS, Rows  # noqa: F401  COLUMNS are these tables'
from divaug.latent.diversity import class_measures, density_and_coverage, nc1, size_matched
from divaug.latent.embeddings import INSTANCE_GROUPS, Embeddings
from divaug.latent.gaps import magnitude_shift, matched, mean_shift, range_gap
from divaug.latent.head_change import weight_norms
from divaug.latent.instances import descending_order, k_curve
from divaug.latent.neighbours import ARCHETYPES, adversary_shares, archetypes, at_most, nearest
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
from divaug.latent.statistics import (
    ADAPTIVE,
    contributions_and_sets,
    instance_sets,
    participation_ratio,
    statistics_of,
    top_share,
)

MAX_QUERIES = 5000  # images whose neighbours are looked up, over all classes,
MAX_PRODUCTS = 2.5e11  # as long as queries * N * D stays below this
CURVE_POINTS = 64


def statistics_table(
    embeddings: Embeddings,
    ks: Sequence[int | str] = (10, ADAPTIVE),
    groups: Sequence[str] = INSTANCE_GROUPS,
    ce_class: str | int = "true",
) -> Any:
    """Return the number, size, magnitude and concentration of every class's features, by instance group and K.

    In an encoder's space only ``member`` and fixed K exist; the others are left out. Rows of ``group`` FN are what the
    authors' code calls "FP". ``number`` grows with n; to compare classes, use ``rarefied_M`` of ``rarefaction_table``.

    Args:
        embeddings: The images.
        ks: K of the images' sets; numbers larger than D are left out.
        groups: Instance groups.
        ce_class: The class whose weights are used, see ``Embeddings.contributions``; FP are measured with the class's
            own.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, statistics_table
        >>> bundle = Embeddings(np.array([[3.0, 1.0], [2.0, 4.0], [0.0, 5.0]]), np.array([0, 0, 1]), ("cat", "dog"))
        >>> table = statistics_table(bundle, ks=[1]).set_index("measure")
        >>> table.loc["number", ["class_name", "value"]].values.tolist()
        [['cat', 2.0], ['dog', 1.0]]
    """
    out = Rows(embeddings)
    if not embeddings.has_head:
        ks, groups = [k for k in ks if k != ADAPTIVE], ["member"]
    ks = [k for k in ks if k == ADAPTIVE or int(k) <= embeddings.dimensions]

    def of_class(c: int, out: Rows) -> None:
        members = embeddings.rows(c)
        measured = contributions_and_sets(embeddings, members, ks, ce_class)
        recognised = embeddings.predictions[members] == c if embeddings.has_head else np.ones(len(members), dtype=bool)
        for group in groups:
            contributions, sets = measured
            keep = np.ones(len(members), dtype=bool)
            if group == "FP":
                contributions, sets = contributions_and_sets(embeddings, embeddings.rows(c, "FP"), ks, c)
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


def rarefaction_table(embeddings: Embeddings, k: int = 10, sizes: Sequence[int] = (5, 20)) -> Any:
    """Return the rarefied number of top-K features of every class at common sizes, its share of the ceiling, and Chao2.

    Columns besides the tidy ones: ``m``; ``ceiling``, min(D, m * K); ``used``, the share of it that is reached;
    ``saturated``, whether that is more than 90 % (little can be compared there); ``largest_common``, whether m is the
    largest size that every class reaches.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, rarefaction_table
        >>> bundle = Embeddings(np.array([[3.0, 1.0], [2.0, 4.0], [0.0, 5.0]]), np.array([0, 0, 1]), ("cat", "dog"))
        >>> table = rarefaction_table(bundle, k=1, sizes=[1]).set_index("measure")
        >>> table.loc["rarefied_1", ["class_name", "value", "ceiling"]].values.tolist()
        [['cat', 1.0, 1.0], ['dog', 1.0, 1.0]]
    """
    out = Rows(embeddings)
    largest = int(embeddings.counts[embeddings.counts > 0].min())

    def of_class(c: int, out: Rows) -> None:
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
    """Return, for every class, the number of distinct features over K (``k_curve``) and over m (``rarefaction_curve``).

    Column ``x`` is K or m. For D above 128, the K-curve is thinned to 64 points on a logarithmic scale.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, curves_table
        >>> bundle = Embeddings(np.array([[3.0, 1.0], [2.0, 4.0], [0.0, 5.0]]), np.array([0, 0, 1]), ("cat", "dog"))
        >>> table = curves_table(bundle, k=1).set_index(["class_name", "measure"]).sort_index()
        >>> table.loc[("cat", "k_curve"), ["x", "value"]].values.tolist()
        [[1.0, 2.0], [2.0, 2.0]]
    """
    out = Rows(embeddings)
    d = embeddings.dimensions
    points = np.arange(1, d + 1) if d <= 128 else np.unique(np.geomspace(1, d, CURVE_POINTS).round().astype(int))

    def of_class(c: int, out: Rows) -> None:
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
        embeddings: Training images.
        held_out: Test images in the same space, for ``density`` and ``coverage``.
        size: Images in each subset; by default the size of the smallest class, but at least 5. Classes with fewer have
            rows of NaN.
        draws: Subsets drawn from each larger class.
        seed: Seed of the subsets.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, diversity_table
        >>> fe = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [2.0, 2.0], [3.0, 3.0]])
        >>> table = diversity_table(Embeddings(fe, np.array([0, 0, 0, 0, 1, 1]), ("cat", "dog")), size=2)
        >>> table[table["measure"] == "vendi"].round(3)[["class_name", "n", "value"]].values.tolist()
        [['cat', 4, 1.0], ['dog', 2, 1.0]]
    """
    out = Rows(embeddings)
    counts = embeddings.counts
    size = max(5, int(counts[counts > 0].min())) if size is None else size
    names = ["vendi", "effective_rank", "participation_ratio", "variance", "mean_cosine"]
    if held_out is not None:
        names += ["density", "coverage"]
    labels = np.full(len(embeddings.labels), -1)  # of as many images of each class
    for c in range(embeddings.num_classes):  # one after another: threads only get in the way of small products
        rng = np.random.default_rng([seed, c])
        features = embeddings.features[embeddings.rows(c)]
        if len(features) < size:
            for name in names:
                out.add(c, name, float("nan"), n=len(features), size=size)
            continue
        labels[rng.choice(embeddings.rows(c), size, replace=False)] = c
        others = None if held_out is None else held_out.features[held_out.rows(c)]

        def measures(rows: np.ndarray, others: np.ndarray | None = others) -> dict[str, float]:
            return class_measures(rows) | ({} if others is None else density_and_coverage(others, rows))

        for name, (value, low, high) in size_matched(features, size, measures, rng, draws).items():
            out.add(c, name, value, n=len(features), low=low, high=high, size=size)
    kept = int((labels >= 0).sum())
    if kept > size:  # of several classes
        out.add(None, "nc1", nc1(embeddings.features, labels), n=kept, size=size)
    return out.frame("size")


def gap_table(train: Embeddings, test: Embeddings, *, repeats: int = 200, seed: int = 0) -> Any:
    """Return every class's train-test gap, raw, of quantiles, and at equal sizes with its null, and its mean shift.

    ``gap_raw`` depends mostly on the class's size (see ``range_gap``). Compare ``gap_matched``, whose ``null`` is what
    equal parts of the pooled images show.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, gap_table
        >>> train = Embeddings(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0, 0]), ("cat",))
        >>> test = Embeddings(np.array([[-1.0, 2.0], [2.5, 2.5]]), np.array([0, 0]), ("cat",), split="test")
        >>> float(gap_table(train, test).set_index("measure").loc["gap_raw", "value"])
        1.5
    """
    out = Rows(train)
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
    """Return the train-test comparison of each class's top-K magnitude, in the forms of ``magnitude_shift``.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, magnitude_table
        >>> train = Embeddings(np.array([[4.0, 0.0], [0.0, 2.0]]), np.array([0, 1]), ("cat", "dog"))
        >>> test = Embeddings(np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([0, 1]), ("cat", "dog"), split="test")
        >>> table = magnitude_table(train, test, k=1).set_index("measure")
        >>> table.loc["test_over_train_fe", ["class_name", "value"]].values.tolist()
        [['cat', 0.75], ['dog', 1.0]]
    """
    out = Rows(train)

    def of_class(c: int, out: Rows) -> None:
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
    """Return the shares of archetypes of every class, the adversaries of its missed images, and weight norms.

    At most ``MAX_QUERIES`` images are looked up (fewer where N * D is above 5e7), the same number from every class that
    has so many; n says how many. Their neighbours are searched among all images. ``adversary:NAME`` rows are the shares
    of other classes.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, neighbour_table
        >>> fe, labels = np.r_[0.0:6.0, 90.0:96.0][:, None], np.repeat([0, 1], 6)  # far apart
        >>> table = neighbour_table(Embeddings(fe, labels, ("cat", "dog"))).set_index("measure")
        >>> table.loc["safe", ["class_name", "value"]].values.tolist()
        [['cat', 1.0], ['dog', 1.0]]
    """
    out = Rows(embeddings)
    queries = min(MAX_QUERIES, int(MAX_PRODUCTS / embeddings.features.size))
    each = max(1, queries // embeddings.num_classes)
    groups = ("member", "FN") if embeddings.has_head else ("member",)
    looked_up = {
        (c, group): at_most(embeddings.rows(c, group), each, seed, c)
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

    ``rarefied_M_views`` is the number expected in M views drawn from all of them, which are not independent images;
    ``within_M_views`` in M views of one image; ``between_M_views`` in one view of each of M images.

    Args:
        embeddings: Views, with ``images`` giving the image of each.
        k: K of the sets.
        sizes: The values of M.

    Raises:
        ValueError: The bundle does not say which image a row is a view of.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, views_table
        >>> fe, images = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]), np.array([0, 0, 1, 1])
        >>> bundle = Embeddings(fe, np.zeros(4, dtype=np.int64), ("cat",), images=images)
        >>> table = views_table(bundle, k=1, sizes=[2]).set_index("measure")
        >>> table.loc[["within_2_views", "between_2_views"], "value"].tolist()
        [1.5, 2.0]
    """
    if embeddings.images is None:
        raise ValueError("views need embeddings.images: the image of which each row is a view")
    images, out = embeddings.images, Rows(embeddings)

    def of_class(c: int, out: Rows) -> None:
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


def all_tables(train: Embeddings, test: Embeddings, k: int = 10, *, seed: int = 0) -> dict[str, Any]:
    """Return every table of a model's training and test images, by name: the full report at the end of a run.

    Example:
        >>> import numpy as np
        >>> from divaug.latent import Embeddings, all_tables
        >>> fe, labels = np.arange(24.0).reshape(12, 2), np.array([0] * 6 + [1] * 6)
        >>> bundle = Embeddings(fe, labels, ("cat", "dog"))
        >>> list(all_tables(bundle, bundle, k=1))
        ['statistics', 'rarefaction', 'curves', 'diversity', 'gaps', 'magnitude', 'neighbours']
    """
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

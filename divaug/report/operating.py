"""What thresholds do on out-of-fold images, in words: each by itself, and all of them together."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from divaug.base.stats import effective_number, wilson_interval
from divaug.runs.decision import ABSTAINED, Decision
from divaug.runs.threshold import GROUPS, OperatingPoint, operating_point


def scores_of(table: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of a class, and whether each image is of it.

    Args:
        table: Out-of-fold predictions.
        name: The class.
    """
    return table[f"p_{name}"].to_numpy(dtype=float), (table["label"] == name).to_numpy()


def groups_of(table: Any) -> np.ndarray | None:
    """Return the groups of out-of-fold images, None where every image stands for itself."""
    return table["group"].to_numpy() if "group" in table else None


def at(table: Any, name: str, threshold: float) -> OperatingPoint:
    """Return what a threshold of a class does on out-of-fold images; some are of the class, others not."""
    return operating_point(*scores_of(table, name), threshold, groups=groups_of(table))


def lines_of(table: Any, decision: Decision, classes: Sequence[str], name: str) -> list[str]:
    """Return what the threshold of one class does alone: the threshold with its promise, shares, false calls.

    Args:
        table: Out-of-fold predictions; some are of the class, others not.
        decision: With a threshold of the class.
        classes: All names, in the order of the model's outputs.
        name: The class.
    """
    point = at(table, name, decision.thresholds[name])
    note = f"; {decision.notes[name]}" if name in decision.notes else ""
    called, groups = scores_of(table, name)[0] >= point.threshold, groups_of(table)
    right = table["label_probability"].to_numpy(dtype=float)  # which tells how alike images of one group are
    count = effective_number(right[called], None if groups is None else groups[called]) if called.any() else 0
    lines = [f"{name} from a probability of {point.threshold:.4g}{note}", _called(name, point, count)]
    lows = {"sensitivity": point.sensitivity[1], "specificity": point.specificity[1]}
    for kind, share in decision.promised.get(name, {}).items():
        if lows[kind] < share:  # it was promised of other images, or when those of a group counted as independent
            lines.append(f"NOT KEPT: {kind} of {100 * share:g} % was promised; set the threshold anew")
    rows = (
        ("sensitivity", point.sensitivity, point.positives, f"of {name} found", point.independent[0]),
        ("specificity", point.specificity, point.negatives, "others left alone", point.independent[1]),
    )
    for title, share, n, what, as_many in rows:
        counted = f"{round(share[0] * n)} of {n} out-of-fold images {what}{alike(n, as_many)}"
        lines.append(f"{title} {percent(share)}: {counted}")
    return lines


def alike(images: int, independent: float) -> str:
    """Say as how many independent images those of few groups count; nothing where it is nine tenths of them or more."""
    return f" (they count as {int(independent)}: images of one group are alike)" if independent < 0.9 * images else ""


def promise(kind: str, share: float) -> str:
    """Return the words for a promise that out-of-fold images keep."""
    return f"promised: {kind} of {100 * share:g} % or more (the lower end of its 95 % interval)"


def few_groups(table: Any, images: np.ndarray, whose: str) -> str | None:
    """Say that images are of too few groups to tell how alike those of one group are; None where they are not.

    Args:
        table: Out-of-fold predictions.
        images: The ones that count, boolean.
        whose: They in words, as "images of cats".
    """
    if "group" not in table:
        return None
    n, groups = int(images.sum()), int(table.loc[images, "group"].nunique())
    few = f"the {n} tested {whose} are of {groups} groups, and a promise needs {GROUPS}"
    return few if groups < min(n, GROUPS) else None


def fewest(share: float) -> int:
    """Return the fewest independent images from which a sensitivity can be promised: all of them must be found."""
    return next(n for n in itertools.count(1) if wilson_interval(1.0, n)[0] >= share)


def percent(share: tuple[float, float, float]) -> str:
    """Return a share with its interval in %: 96.4 % [90.0, 98.8]."""
    value, low, high = (100 * part for part in share)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _called(name: str, point: OperatingPoint, independent: float) -> str:
    right = round(point.sensitivity[0] * point.positives)
    false = round((1 - point.specificity[0]) * point.negatives)
    said = f"{false} of {point.negatives} others are called {name} too"
    if called := right + false:
        precision = right / called, *wilson_interval(right / called, independent)
        said += f": of {called} called {name}, {percent(precision)} are"
        if false > right:
            said = f"MOST ARE SOMETHING ELSE: {said}"
    return said


def together(table: Any, decision: Decision, classes: Sequence[str]) -> list[str]:
    """Return what all thresholds and the abstention do together: one class's threshold takes images from another."""
    made = decision.decide(table[[f"p_{name}" for name in classes]].to_numpy(dtype=float), classes)
    labels, lines = table["label"].to_numpy(), []
    for name in decision.thresholds if len(decision.thresholds) > 1 else ():
        called, own = made == classes.index(name), labels == name
        right = int((called & own).sum())
        alone = int((table.loc[own, f"p_{name}"] >= decision.thresholds[name]).sum())
        lost = f" ({alone} alone: other thresholds take {alone - right})" if right < alone else ""
        lines.append(f"{name}: finds {right} of {own.sum()}{lost}; {called.sum() - right} others are called {name} too")
        if own.all() or not own.any():
            continue
        point = at(table, name, decision.thresholds[name])
        as_many, lows = point.independent, {"sensitivity": point.sensitivity[1], "specificity": point.specificity[1]}
        kept = {"sensitivity": (called & own, own, as_many[0]), "specificity": (~called & ~own, ~own, as_many[1])}
        for kind, share in decision.promised.get(name, {}).items():
            rightly, of, count = kept[kind]
            if wilson_interval(float(rightly.sum() / of.sum()), count)[0] < share:
                with_others = " together with the other thresholds" if lows[kind] >= share else ""
                lines.append(
                    f"NOT KEPT{with_others}: {kind} of {100 * share:g} % for {name}; look at "
                    "classes one by one in the columns p_*, or set fewer thresholds"
                )
    if decision.abstain:
        lines.append(
            f"no decision on {(made == ABSTAINED).sum()} of {len(made)} images: no class reaches its threshold, or "
            f"{decision.abstain:.3f} where it has none"
        )
    return lines

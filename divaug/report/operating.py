"""What thresholds do on out-of-fold images, in words: each by itself, and all of them together."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from divaug.base.stats import wilson_interval
from divaug.runs.decision import ABSTAINED, Decision
from divaug.runs.threshold import GROUPS, OperatingPoint, operating_point


def scores_of(table: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of a class, and whether each image is of it.

    Args:
        table: Out-of-fold predictions.
        name: The class.
    """
    return table[f"p_{name}"].to_numpy(dtype=float), (table["label"] == name).to_numpy()


def lines_of(table: Any, decision: Decision, classes: Sequence[str], name: str) -> list[str]:
    """Return what the threshold of one class does alone: the threshold with its promise, shares, false calls.

    Args:
        table: Out-of-fold predictions; some are of the class, others not.
        decision: With a threshold of the class.
        classes: All names, in the order of the model's outputs.
        name: The class.
    """
    point = operating_point(*scores_of(table, name), decision.thresholds[name])
    note = f"; {decision.notes[name]}" if name in decision.notes else ""
    lines = [f"{name} from a probability of {point.threshold:.4g}{note}", _called(name, point)]
    rows = (
        ("sensitivity", point.sensitivity, point.positives, f"of {name} found"),
        ("specificity", point.specificity, point.negatives, "others left alone"),
    )
    for title, share, n, what in rows:
        lines.append(f"{title} {percent(share)}: {round(share[0] * n)} of {n} out-of-fold images {what}")
    return lines


def promise(kind: str, share: float) -> str:
    """Return the words for a promise that out-of-fold images keep."""
    return f"promised: {kind} of {100 * share:g} % or more (the lower end of its 95 % interval)"


def few_groups(table: Any, images: np.ndarray) -> str | None:
    """Say that images are of too few groups for a promise, which takes them for independent; None where they are not.

    Args:
        table: Out-of-fold predictions.
        images: The ones that count, boolean.
    """
    if "group" not in table:
        return None
    n, groups = int(images.sum()), int(table.loc[images, "group"].nunique())
    return f"{n} images are of {groups} groups, and {GROUPS} are needed" if groups < min(n, GROUPS) else None


def fewest(share: float) -> int:
    """Return the fewest images of a class from which a sensitivity can be promised: all of them must be found."""
    return next(n for n in itertools.count(1) if wilson_interval(1.0, n)[0] >= share)


def percent(share: tuple[float, float, float]) -> str:
    """Return a share with its interval in %: 96.4 % [90.0, 98.8]."""
    value, low, high = (100 * part for part in share)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _called(name: str, point: OperatingPoint) -> str:
    right = round(point.sensitivity[0] * point.positives)
    false = round((1 - point.specificity[0]) * point.negatives)
    said = f"{false} of {point.negatives} others are called {name} too"
    if called := right + false:
        precision = right / called, *wilson_interval(right / called, called)
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
        kept = {"sensitivity": (called & own, own), "specificity": (~called & ~own, ~own)}
        for kind, share in decision.promised.get(name, {}).items():
            rightly, of = (int(images.sum()) for images in kept[kind])
            if of and wilson_interval(rightly / of, of)[0] < share:
                lines.append(
                    f"NOT KEPT together with the other thresholds: {kind} of {100 * share:g} % for {name}; look at "
                    "classes one by one in the columns p_*, or set fewer thresholds"
                )
    if decision.abstain:
        lines.append(
            f"no decision on {(made == ABSTAINED).sum()} of {len(made)} images: no class reaches its threshold, or "
            f"{decision.abstain:.3f} where it has none"
        )
    return lines

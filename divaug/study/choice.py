"""Which candidate? Recalls of out-of-fold predictions with intervals, differences by resampling groups, and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from divaug.base.metrics import confusion_matrix, nanmean, recall, softmax
from divaug.base.stats import effective_number, wilson_interval
from divaug.runs.threshold import GROUPS, temperature_of

JUDGED = 20  # tested images of a class; classes with fewer are reported and never concluded from
RESAMPLES = 2000


@dataclass(frozen=True)
class Candidate:
    """One candidate's out-of-fold result.

    Attributes:
        name: Its name.
        recalls: Recall of every class, NaN where none of its images was tested, ``(C,)``.
        intervals: Their Wilson intervals, ``(C, 2)``; images of one group count as fewer (``effective_number``).
        independent: As how many independent images those of every class count, ``(C,)``; NaN of none.
        precisions: Of every class: the share of images called so that are, and its interval, ``(C, 3)``; NaN of none.
        rare: Interval of the share found of all images of classes that are not judged; NaN where there are none.
        balanced: Mean recall over the classes that are judged.
        difference: Points of ``balanced`` over the first candidate, with its interval; NaN for the first.
        gains: Points of every class's recall over the first candidate's, with an interval of 95 % each: difference,
            low, high, ``(C, 3)``; NaN for the first candidate and for classes that are not judged.
        matrix: Labels in rows, predictions in columns.
    """

    name: str
    recalls: Float[np.ndarray, "C"]
    intervals: Float[np.ndarray, "C 2"]
    independent: Float[np.ndarray, "C"]
    precisions: Float[np.ndarray, "C 3"]
    rare: tuple[float, float]
    balanced: float
    difference: tuple[float, float, float]
    gains: Float[np.ndarray, "C 3"]
    matrix: Int[np.ndarray, "C C"]


@dataclass(frozen=True)
class Choice:
    """What the folds say.

    Attributes:
        candidates: All of them, the simplest first.
        winner: The name of the one to use.
        conclusion: Why, in a sentence.
        judged: Classes that count, ``(C,)`` boolean.
    """

    candidates: tuple[Candidate, ...]
    winner: str
    conclusion: str
    judged: np.ndarray


def choose(
    logits: Mapping[str, Float[np.ndarray, "M C"]],
    labels: Int[np.ndarray, "M"],
    groups: Sequence[object] | np.ndarray | None,
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> Choice:
    """Choose a candidate by the recall of out-of-fold predictions.

    Another candidate than the first, the simplest, is chosen only if its mean recall over the judged classes is higher
    beyond doubt: the interval of the difference, from resampled groups, at 0.05 divided by the number of comparisons,
    lies above 0. Of several such candidates the best is chosen. From fewer than ten groups none is.

    Args:
        logits: Each candidate's logits, the simplest candidate first.
        labels: Labels of the images.
        groups: Their groups (patients, slides); None resamples images.
        classes: Names.
        seed: Seed of the resampling.
    """
    counts = np.bincount(labels, minlength=len(classes))
    judged = counts >= JUDGED
    hits = {name: values.argmax(1) == labels for name, values in logits.items()}
    first, *others = logits
    of = None if groups is None else len(np.unique(np.asarray(groups)[judged[labels]]))
    few = of is not None and of < GROUPS
    spread = resampled(hits, labels, groups, judged, seed=seed) if others and judged.any() and not few else {}
    base = recall(confusion_matrix(labels, logits[first].argmax(1), len(classes)))
    level = 0.05 / max(1, len(others))
    candidates = []
    for name, values in logits.items():
        matrix = confusion_matrix(labels, values.argmax(1), len(classes))
        recalls = recall(matrix)
        balanced, difference = nanmean(recalls[judged]), (np.nan, np.nan, np.nan)
        gains = np.full((len(classes), 3), np.nan)
        if few and name != first:
            difference = (100 * (balanced - nanmean(base[judged])), np.nan, np.nan)
            gains[judged, 0] = 100 * (recalls - base)[judged]
        if name in spread:
            means = np.array([nanmean(row) for row in spread[name]])  # NaN where a resample has no class that is judged
            low, high = np.nanquantile(means, (level / 2, 1 - level / 2))
            difference = (100 * (balanced - nanmean(base[judged])), 100 * float(low), 100 * float(high))
            gains[judged, 0] = 100 * (recalls - base)[judged]
            gains[judged, 1:] = 100 * np.nanquantile(spread[name], (0.025, 0.975), axis=0).T
        candidates.append(
            Candidate(name, recalls, *_spans(values, labels, groups, judged), balanced, difference, gains, matrix)
        )
    winner, why = _verdict(candidates, judged, of if few else None)
    return Choice(tuple(candidates), winner, why, judged)


def _spans(
    logits: np.ndarray, labels: np.ndarray, groups: Sequence[object] | np.ndarray | None, judged: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float]]:
    """Return a candidate's ``intervals``, ``independent``, ``precisions`` and ``rare``."""
    size, predicted = len(judged), logits.argmax(1)
    # Calibrated, as in the table of out-of-fold predictions, so that all that counts images counts them alike.
    scaled = logits.astype(np.float64) / temperature_of(logits.astype(np.float64), labels)
    right, own = predicted == labels, softmax(scaled)[np.arange(len(labels)), labels]

    def number(images: np.ndarray) -> float:
        """Return as how many images some count: their probabilities tell how alike those of a group are."""
        return effective_number(own[images], None if groups is None else np.asarray(groups)[images])

    def interval(images: np.ndarray) -> tuple[float, float]:
        return wilson_interval(float(right[images].mean()), number(images))

    intervals, precisions = np.full((size, 2), np.nan), np.full((size, 3), np.nan)
    independent = np.full(size, np.nan)
    for c in range(size):
        if (tested := labels == c).any():
            intervals[c], independent[c] = interval(tested), number(tested)
        if (called := predicted == c).any():
            precisions[c] = right[called].mean(), *interval(called)
    few = ~judged[labels]
    return intervals, independent, precisions, interval(few) if few.any() else (np.nan, np.nan)


def _verdict(candidates: Sequence[Candidate], judged: np.ndarray, too_few: int | None) -> tuple[str, str]:
    """Return the candidate to use, and a sentence that begins with it; ``too_few`` groups tell nothing."""
    first, others = candidates[0], candidates[1:]
    some = f"the {judged.sum()} of {len(judged)} classes with {JUDGED} tested images or more"
    if not others:
        return first.name, f"Use {first.name}: nothing else was compared"
    if not judged.any():
        return first.name, f"Use {first.name}, the simplest: no class has {JUDGED} tested images, so none is compared"
    if too_few is not None:
        groups = "group is" if too_few == 1 else "groups are"
        why = f"{too_few} {groups} too few to compare methods ({GROUPS} are needed)"
        return first.name, f"Use {first.name}, the simplest: {why}"
    spans = {
        one.name: f"{one.difference[0]:+.1f} [{one.difference[1]:+.1f}, {one.difference[2]:+.1f}]" for one in others
    }
    if better := [one for one in others if one.difference[1] > 0]:
        best = max(better, key=lambda one: one.balanced).name
        return best, f"Use {best}: {spans[best]} points of mean recall over {first.name}, of {some}"
    worse = [one.name for one in others if one.difference[2] < 0]
    close = "the others are worse" if len(worse) == len(others) else "too close to call"
    if worse and len(worse) < len(others):
        equal = " and ".join(one.name for one in others if one.name not in worse)
        close = f"too close to call against {equal}; {' and '.join(worse)} {'is' if len(worse) == 1 else 'are'} worse"
    every = ", ".join(f"{name} {span}" for name, span in spans.items())
    return first.name, f"Use {first.name}, the simplest: {close} (points of mean recall of {some}: {every})"


def resampled(
    hits: Mapping[str, np.ndarray],
    labels: Int[np.ndarray, "M"],
    groups: Sequence[object] | np.ndarray | None,
    judged: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, np.ndarray]:
    """Return, for every candidate but the first, its differences in recall over resampled groups, ``(R, judged)``.

    Groups are drawn with replacement, as many as there are; a class that is absent from a resample has NaN there.
    """
    units = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    number, size = int(units.max()) + 1, len(judged)
    cells = units * size + labels
    total = np.bincount(cells, minlength=number * size).reshape(number, size)[:, judged]
    right = {
        name: np.bincount(cells, weights=hit, minlength=number * size).reshape(number, size)[:, judged]
        for name, hit in hits.items()
    }
    rng = np.random.default_rng(seed)
    first, *others = hits
    out = {name: np.full((resamples, total.shape[1]), np.nan) for name in others}
    for k in range(resamples):
        times = np.bincount(rng.integers(0, number, number), minlength=number)
        seen = times @ total
        for name in others:
            np.divide(times @ (right[name] - right[first]), seen, out=out[name][k], where=seen > 0)
    return out

"""Which candidate? Recalls of out-of-fold predictions with intervals, differences by resampling groups, and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from divaug.base.metrics import confusion_matrix, nanmean, recall
from divaug.base.stats import wilson_interval

JUDGED = 20  # tested images of a class; classes with fewer are reported and never concluded from
RESAMPLES = 2000


@dataclass(frozen=True)
class Candidate:
    """One candidate's out-of-fold result.

    Attributes:
        name: Its name.
        recalls: Recall of every class, NaN where none of its images was tested, ``(C,)``.
        intervals: Their Wilson intervals, ``(C, 2)``.
        balanced: Mean recall over the classes that are judged.
        difference: Points of ``balanced`` over the first candidate, with its interval; NaN for the first.
        matrix: Labels in rows, predictions in columns.
    """

    name: str
    recalls: Float[np.ndarray, "C"]
    intervals: Float[np.ndarray, "C 2"]
    balanced: float
    difference: tuple[float, float, float]
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
    lies above 0. Of several such candidates the best is chosen.

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
    spread = resampled(hits, labels, groups, judged, seed=seed) if others else {}
    level = 0.05 / max(1, len(others))
    candidates = []
    for name, values in logits.items():
        matrix = confusion_matrix(labels, values.argmax(1), len(classes))
        recalls = recall(matrix)
        intervals = [
            wilson_interval(float(r), int(n)) if n else (np.nan, np.nan) for r, n in zip(recalls, counts, strict=True)
        ]
        balanced, difference = nanmean(recalls[judged]), (np.nan, np.nan, np.nan)
        if name != first:
            low, high = np.quantile(spread[name], (level / 2, 1 - level / 2)) if judged.any() else (np.nan, np.nan)
            base = nanmean(recall(confusion_matrix(labels, logits[first].argmax(1), len(classes)))[judged])
            difference = (100 * (balanced - base), 100 * float(low), 100 * float(high))
        candidates.append(Candidate(name, recalls, np.array(intervals), balanced, difference, matrix))
    better = [one for one in candidates if one.difference[1] > 0]
    some = f"the {judged.sum()} of {len(judged)} classes with {JUDGED} tested images or more"
    if not judged.any():
        winner, why = first, f"no class has {JUDGED} tested images: nothing can be concluded; {first}, the simplest"
    elif better:
        best = max(better, key=lambda one: one.balanced)
        points, low, high = best.difference
        winner = best.name
        why = f"{winner}: mean recall of {some} {points:+.1f} points [{low:+.1f}, {high:+.1f}] over {first}"
    else:
        spans = ", ".join(
            f"{one.name} {one.difference[0]:+.1f} [{one.difference[1]:+.1f}, {one.difference[2]:+.1f}]"
            + (", worse" if one.difference[2] < 0 else "")
            for one in candidates[1:]
        )
        winner, why = (
            first,
            f"too close to call: {first}, the simplest"
            + (f" (points of mean recall of {some}: {spans})" if spans else ""),
        )
    return Choice(tuple(candidates), winner, why, judged)


def resampled(
    hits: Mapping[str, np.ndarray],
    labels: Int[np.ndarray, "M"],
    groups: Sequence[object] | np.ndarray | None,
    judged: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, np.ndarray]:
    """Return, for every candidate but the first, its difference in mean recall over resampled groups.

    Groups are drawn with replacement, as many as there are; classes absent from a resample are left out of its mean.
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
    out: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, number, number), minlength=number)
        seen = times @ total
        means = {name: nanmean(np.divide(times @ right[name], seen, out=np.full(len(seen), np.nan), where=seen > 0))
                 for name in hits}  # fmt: skip
        for name in others:
            out[name].append(means[name] - means[first])
    return {name: np.array(values) for name, values in out.items()}

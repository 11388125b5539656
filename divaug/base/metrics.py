"""Metrics from a confusion matrix and from scores; NaN, not 0, for classes absent from the evaluated part."""

import numpy as np
from jaxtyping import Float, Int

from divaug.base.groups import rank_groups, shot_groups

TAUS = np.arange(-1, 4.0001, 0.25)


def confusion_matrix(
    labels: Int[np.ndarray, "N"], predictions: Int[np.ndarray, "N"], num_classes: int
) -> Int[np.ndarray, "C C"]:
    """Return counts with labels in rows and predictions in columns; matrices of several parts can be added."""
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def recall(matrix: Int[np.ndarray, "C C"]) -> Float[np.ndarray, "C"]:
    """Return each class's recall (accuracy on the class), NaN where it is absent."""
    return _ratio(matrix.diagonal(), matrix.sum(1))


def precision(matrix: Int[np.ndarray, "C C"]) -> Float[np.ndarray, "C"]:
    """Return each class's precision: 0 where it is present and never predicted, NaN where it is absent."""
    present = matrix.sum(1) > 0
    predicted = matrix.sum(0)
    return np.where(present, matrix.diagonal() / np.maximum(predicted, 1), np.nan)


def f1(matrix: Int[np.ndarray, "C C"]) -> Float[np.ndarray, "C"]:
    """Return each class's F1, NaN where it is absent."""
    present = matrix.sum(1) > 0
    return np.where(present, 2 * matrix.diagonal() / np.maximum(matrix.sum(0) + matrix.sum(1), 1), np.nan)


def from_confusion(matrix: Int[np.ndarray, "C C"], group_counts: Int[np.ndarray, "C"]) -> dict[str, float]:
    """Return the scalar metrics of a confusion matrix, all in [0, 1].

    Args:
        matrix: Labels in rows, predictions in columns.
        group_counts: Training counts that define the groups of classes.

    Returns:
        ``acc``, ``bal_acc`` (mean recall), ``macro_f1``, ``gmean`` (geometric mean of recalls), ``worst_class_acc``,
        ``acc_head``, ``acc_mid``, ``acc_tail`` (mean recall of rank terciles) and ``acc_many``, ``acc_medium``,
        ``acc_few`` for shot groups that are not empty. Absent classes are left out of the means; a group without any
        present class is NaN.
    """
    recalls = recall(matrix)
    known = recalls[~np.isnan(recalls)]
    groups = {**rank_groups(group_counts), **{k: v for k, v in shot_groups(group_counts).items() if len(v)}}
    with np.errstate(divide="ignore"):
        gmean = float(np.exp(np.log(known).mean()))
    return {
        "acc": float(matrix.diagonal().sum() / matrix.sum()),
        "bal_acc": float(known.mean()),
        "macro_f1": nanmean(f1(matrix)),
        "gmean": gmean,
        "worst_class_acc": float(known.min()),
        **{f"acc_{name}": nanmean(recalls[classes]) for name, classes in groups.items()},
    }


def roc_auc(labels: Int[np.ndarray, "N"], scores: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "C"]:
    """Return each class's one-versus-rest area under the ROC curve (ties count half), NaN where it is undefined."""
    areas = np.full(scores.shape[1], np.nan)
    for c in range(scores.shape[1]):
        positive = labels == c
        ours, others = scores[positive, c], np.sort(scores[~positive, c])
        if len(ours) and len(others) and not np.isnan(scores[:, c]).any():
            below = np.searchsorted(others, ours, "left").sum() + np.searchsorted(others, ours, "right").sum()
            areas[c] = below / (2 * len(ours) * len(others))
    return areas


def calibration_error(labels: Int[np.ndarray, "N"], probabilities: Float[np.ndarray, "N C"], bins: int = 15) -> float:
    """Return the expected calibration error of the predicted class over equal-width bins (Guo et al. 2017).

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
    """
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def classwise_calibration_error(
    labels: Int[np.ndarray, "N"], probabilities: Float[np.ndarray, "N C"], bins: int = 15
) -> Float[np.ndarray, "C"]:
    """Return each class's calibration error: over equal-width bins of its probability, how far its frequency is off.

    Unlike ``calibration_error``, which looks at the predicted class alone, it sees a rare class whose probability is
    too low everywhere.

    Reference:
        Kull et al., Beyond Temperature Scaling, NeurIPS 2019, arXiv:1910.12656.
    """
    classes = probabilities.shape[1]
    which = np.clip(np.ceil(probabilities * bins).astype(np.int64) - 1, 0, bins - 1)
    cells = (which + bins * np.arange(classes)).ravel()
    hits = labels[:, None] == np.arange(classes)
    gaps = np.bincount(cells, weights=(hits - probabilities).ravel(), minlength=classes * bins)
    return np.abs(gaps.reshape(classes, bins)).sum(1) / len(labels)


def brier_score(labels: Int[np.ndarray, "N"], probabilities: Float[np.ndarray, "N C"]) -> float:
    """Return the mean squared distance between the probabilities and the label's, summed over classes: 0 to 2.

    Reference:
        Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78, 1950.
    """
    own = probabilities[np.arange(len(labels)), labels]
    return float(((probabilities**2).sum(1) - 2 * own + 1).mean())


def sensitivity_at(
    labels: Int[np.ndarray, "N"], scores: Float[np.ndarray, "N C"], specificity: float = 0.95
) -> Float[np.ndarray, "C"]:
    """Return each class's sensitivity at the lowest threshold on its score that keeps a specificity.

    The threshold is read off these images themselves: it describes the ranking, as an area under the ROC curve does,
    and promises nothing for others.

    Args:
        labels: Classes.
        scores: A score of every class, for example its probability.
        specificity: Share of other images that are not called the class, in (0, 1].

    Returns:
        NaN for a class that is absent or alone.
    """
    found = np.full(scores.shape[1], np.nan)
    for c in range(scores.shape[1]):
        own, others = scores[labels == c, c], scores[labels != c, c]
        if len(own) and len(others):
            allowed = int((1 - specificity) * len(others) + 1e-9)  # others that may be called the class
            bound = np.partition(others, len(others) - 1 - allowed)[len(others) - 1 - allowed]
            found[c] = (own > bound).mean()
    return found


def accuracy_under(recalls: Float[np.ndarray, "C"], shares: Float[np.ndarray, "C"]) -> float:
    """Return the accuracy on test images of other class shares, from recalls; absent classes are left out.

    Args:
        recalls: Recall of every class, NaN where it is absent.
        shares: Share of every class among those images, >= 0.

    Reference:
        Hong et al., Disentangling Label Distribution for Long-tailed Visual Recognition, CVPR 2021, arXiv:2012.00321
        (test sets of other priors).
    """
    known = ~np.isnan(recalls)
    total = shares[known].sum()
    return float((recalls[known] * shares[known]).sum() / total) if total > 0 else float("nan")


def prior_corrected(
    labels: Int[np.ndarray, "N"], logits: Float[np.ndarray, "N C"], shares: Float[np.ndarray, "C"]
) -> tuple[Float[np.ndarray, "C"], float]:
    """Return the prior-corrected recall of every class and the strength tau that was chosen.

    Their mean is the prior-corrected balanced accuracy: the mean recall of argmax(logits - tau * log pi), with pi the
    class shares of the training cut. tau, from -1 to 4 in steps of 0.25 (ties: nearest 0), is chosen on one stratified
    half of the test part and evaluated on the other, in both directions, and the two results are averaged. This exposes
    a method that only moved a threshold.
    Classes with fewer than two test images are left out.

    Args:
        labels: Labels of the test part.
        logits: Final logits.
        shares: Class shares of the training cut, > 0, the same for every method and loss.

    Returns:
        Each class's recall ``(C,)``, NaN where it is left out, and the mean of the two taus.

    Raises:
        ValueError: A share is not positive.

    Reference:
        Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021, arXiv:2007.07314, eq. 9 (post hoc).

    Differs from the paper: tau is cross-fitted, and may be negative.
    """
    present, _, chosen, recalls = _cross_fit(labels, logits, shares)
    if not present.any():
        return np.full(len(shares), np.nan), float("nan")
    both = (recalls[1, chosen[0]] + recalls[0, chosen[1]]) / 2
    return both, float((TAUS[chosen[0]] + TAUS[chosen[1]]) / 2)


def prior_corrected_predictions(
    labels: Int[np.ndarray, "N"], logits: Float[np.ndarray, "N C"], shares: Float[np.ndarray, "C"]
) -> Int[np.ndarray, "N"]:
    """Return the class that each test image is given when tau is chosen on the half without it.

    The predictions behind ``prior_corrected``, for looking at groups of images. Images of classes with fewer than two
    test images, which no half holds, get -1.

    Raises:
        ValueError: A share is not positive.
    """
    present, half, chosen, _ = _cross_fit(labels, logits, shares)
    predictions = np.full(len(labels), -1)
    rows = np.flatnonzero(present[labels])
    for h in (0, 1):
        mine = rows[half == h]
        tau = TAUS[chosen[1 - h]]
        predictions[mine] = (logits[mine].astype(np.float64) - tau * np.log(shares)).argmax(1)
    return predictions


def _cross_fit(
    labels: Int[np.ndarray, "N"], logits: Float[np.ndarray, "N C"], shares: Float[np.ndarray, "C"]
) -> tuple[np.ndarray, np.ndarray, list[int], np.ndarray]:
    """Return classes present, the half of each of their images, the taus chosen, recalls by half, tau and class."""
    if (shares <= 0).any():
        raise ValueError(f"class shares must be > 0, got {shares.tolist()}")
    present = np.bincount(labels, minlength=len(shares)) >= 2
    keep = present[labels]
    labels, logits = labels[keep], logits[keep].astype(np.float64)
    half = np.zeros(len(labels), dtype=np.int64)
    recalls = np.empty((2, len(TAUS), len(shares)))
    if not len(labels):
        return present, half, [0, 0], recalls
    for c in np.flatnonzero(present):
        half[np.flatnonzero(labels == c)[1::2]] = 1
    for t, tau in enumerate(TAUS):
        predictions = (logits - tau * np.log(shares)).argmax(1)
        for h in (0, 1):
            matrix = confusion_matrix(labels[half == h], predictions[half == h], len(shares))
            recalls[h, t] = recall(matrix)
    chosen = [_nearest_zero_best(recalls[h][:, present].mean(1)) for h in (0, 1)]
    return present, half, chosen, recalls


def _nearest_zero_best(row: Float[np.ndarray, "T"]) -> int:
    best = np.flatnonzero(row >= row.max() - 1e-12)
    return int(best[np.abs(TAUS[best]).argmin()])


def softmax(logits: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
    """Return softmax probabilities in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def nanmean(values: Float[np.ndarray, "*n"]) -> float:
    """Return the mean of the values that are not NaN, NaN where there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _ratio(part: Int[np.ndarray, "C"], whole: Int[np.ndarray, "C"]) -> Float[np.ndarray, "C"]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)

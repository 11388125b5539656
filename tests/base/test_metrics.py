import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from divaug.base import metrics

RNG = np.random.default_rng(0)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(1, 120), st.integers(0, 2**32 - 1))
def test_against_scikit_learn(num_classes, n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=n)
    logits = rng.normal(size=(n, num_classes)) + 2 * np.eye(num_classes)[labels] * (rng.random((n, 1)) < 0.6)
    predictions = logits.argmax(1)
    present = np.unique(labels)
    matrix = metrics.confusion_matrix(labels, predictions, num_classes)
    assert (matrix == sk.confusion_matrix(labels, predictions, labels=range(num_classes))).all()
    ours = metrics.from_confusion(matrix, np.arange(num_classes, 0, -1))
    assert ours["acc"] == pytest.approx(sk.accuracy_score(labels, predictions))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predicted classes that are absent
        assert ours["bal_acc"] == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
        assert ours["macro_f1"] == pytest.approx(
            sk.f1_score(labels, predictions, labels=present, average="macro", zero_division=0)
        )
        recalls = sk.recall_score(labels, predictions, labels=present, average=None, zero_division=0)
        precisions = sk.precision_score(labels, predictions, labels=present, average=None, zero_division=0)
    assert metrics.recall(matrix)[present] == pytest.approx(recalls)
    assert metrics.precision(matrix)[present] == pytest.approx(precisions)
    assert ours["worst_class_acc"] == pytest.approx(recalls.min())
    assert ours["gmean"] == pytest.approx(recalls.prod() ** (1 / len(recalls)))
    scores = metrics.softmax(logits)
    areas = metrics.roc_auc(labels, scores)
    for c in present:
        if len(present) > 1:
            assert areas[c] == pytest.approx(sk.roc_auc_score(labels == c, scores[:, c]))


def test_absent_classes_are_nan_and_left_out_of_means():
    matrix = metrics.confusion_matrix(np.array([0, 0, 2]), np.array([0, 2, 2]), 4)
    assert np.isnan(metrics.recall(matrix)).tolist() == [False, True, False, True]
    assert np.isnan(metrics.precision(matrix)).tolist() == [False, True, False, True]
    ours = metrics.from_confusion(matrix, np.array([4, 3, 2, 1]))
    assert ours["bal_acc"] == pytest.approx(0.75)
    assert np.isnan(ours["acc_tail"])  # class 3 alone
    assert "acc_many" not in ours and ours["acc_few"] == pytest.approx(0.75)
    assert np.isnan(metrics.roc_auc(np.array([0, 0, 2]), np.eye(4)[[0, 2, 2]])[[1, 3]]).all()


def test_ties_count_half_in_the_area():
    assert metrics.roc_auc(np.array([0, 1]), np.full((2, 2), 0.5)).tolist() == [0.5, 0.5]


def test_an_area_over_scores_that_are_not_numbers_is_none():
    scores = np.array([[0.2, 0.8], [np.nan, 0.1], [0.9, 0.3]])
    areas = metrics.roc_auc(np.array([0, 1, 0]), scores)
    assert np.isnan(areas[0]) and areas[1] == 0.0


def test_calibration_error_against_a_slow_loop():
    probabilities = metrics.softmax(RNG.normal(size=(300, 4)) * 2)
    labels = RNG.integers(4, size=300)
    total = 0.0
    for b in range(15):
        confidence = probabilities.max(1)
        members = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if members.any():
            right = (probabilities.argmax(1) == labels)[members].mean()
            total += members.mean() * abs(right - confidence[members].mean())
    assert metrics.calibration_error(labels, probabilities) == pytest.approx(total)


def test_classwise_calibration_error_against_a_slow_loop():
    probabilities = metrics.softmax(RNG.normal(size=(300, 4)) * 2)
    labels = RNG.integers(3, size=300)  # the last class is absent: all of its probability is error
    for c, found in enumerate(metrics.classwise_calibration_error(labels, probabilities)):
        total = 0.0
        for b in range(15):
            members = (probabilities[:, c] > b / 15) & (probabilities[:, c] <= (b + 1) / 15)
            if members.any():
                total += members.mean() * abs((labels == c)[members].mean() - probabilities[members, c].mean())
        assert found == pytest.approx(total)


def test_brier_score_against_a_slow_loop():
    probabilities = metrics.softmax(RNG.normal(size=(50, 4)))
    labels = RNG.integers(4, size=50)
    squares = [
        sum((p - (c == y)) ** 2 for c, p in enumerate(row)) for row, y in zip(probabilities, labels, strict=True)
    ]
    assert metrics.brier_score(labels, probabilities) == pytest.approx(np.mean(squares))
    assert metrics.brier_score(np.array([0]), np.array([[0.0, 1.0]])) == 2


@pytest.mark.parametrize("specificity", [0.5, 0.9, 0.95, 1.0])
def test_sensitivity_at_a_specificity_is_the_best_of_all_thresholds(specificity):
    labels = RNG.integers(3, size=200)
    scores = np.round(RNG.random((200, 4)) + 0.3 * (labels[:, None] == np.arange(4)), 2)  # with ties
    found = metrics.sensitivity_at(labels, scores, specificity)
    for c in range(3):
        own, others = scores[labels == c, c], scores[labels != c, c]
        kept = [t for t in [*np.unique(scores[:, c]), 9.0] if (others < t).mean() >= specificity - 1e-9]
        assert found[c] == pytest.approx(max((own >= t).mean() for t in kept))
    assert np.isnan(found[3])


def test_sensitivity_is_that_of_scikit_learns_roc_curve():
    from sklearn.metrics import roc_curve

    labels, scores = RNG.integers(2, size=400), RNG.random((400, 2))
    false, true, _ = roc_curve(labels == 1, scores[:, 1], drop_intermediate=False)
    assert metrics.sensitivity_at(labels, scores, 0.9)[1] == pytest.approx(true[false <= 0.1 + 1e-9].max())


def test_accuracy_under_other_shares_is_that_of_images_drawn_so():
    recalls = np.array([0.9, 0.5, 0.1])
    assert metrics.accuracy_under(recalls, np.array([98.0, 1.0, 1.0])) == pytest.approx(0.882 + 0.005 + 0.001)
    assert metrics.accuracy_under(recalls, np.ones(3)) == pytest.approx(0.5)
    absent = np.array([0.9, np.nan, 0.1])
    assert metrics.accuracy_under(absent, np.array([0.5, 0.25, 0.25])) == pytest.approx((0.45 + 0.025) / 0.75)
    assert np.isnan(metrics.accuracy_under(absent, np.array([0.0, 1.0, 0.0])))


def test_prior_correction_undoes_a_moved_threshold():
    labels = np.repeat(np.arange(3), 400)
    shares = np.array([0.9, 0.09, 0.01])
    clean = RNG.normal(size=(1200, 3)) + 2.5 * np.eye(3)[labels]
    moved, tau = metrics.prior_corrected(labels, clean + 1.0 * np.log(shares), shares)
    plain, _ = metrics.prior_corrected(labels, clean, shares)
    moved, plain = moved.mean(), plain.mean()
    assert tau == pytest.approx(1.0, abs=0.25)
    assert moved == pytest.approx(plain, abs=0.02)
    matrix = metrics.confusion_matrix(labels, (clean + np.log(shares)).argmax(1), 3)
    assert metrics.from_confusion(matrix, np.array([90, 9, 1]))["bal_acc"] < moved - 0.1


def test_prior_correction_against_a_slow_loop():
    labels = RNG.integers(3, size=61)
    logits, shares = RNG.normal(size=(61, 3)), np.array([0.6, 0.3, 0.1])
    halves = [[], []]
    for c in range(3):
        for position, i in enumerate(i for i in range(61) if labels[i] == c):
            halves[position % 2].append(i)

    def balanced(rows, tau):
        recalls = []
        for c in range(3):
            mine = [i for i in rows if labels[i] == c]
            recalls.append(np.mean([(logits[i] - tau * np.log(shares)).argmax() == c for i in mine]))
        return np.array(recalls)

    taus = [t / 4 for t in range(-4, 17)]
    wanted = np.zeros(3)
    for chosen_on, read_on in ((0, 1), (1, 0)):
        best = max(taus, key=lambda t: (round(balanced(halves[chosen_on], t).mean(), 9), -abs(t)))
        wanted += balanced(halves[read_on], best) / 2
    recalls, _ = metrics.prior_corrected(labels, logits, shares)
    assert recalls == pytest.approx(wanted) and len(set(wanted)) == 3


def test_prior_correction_leaves_out_classes_with_one_picture():
    labels = np.array([0, 0, 0, 0, 1])
    recalls, _ = metrics.prior_corrected(labels, np.eye(2)[[0, 0, 0, 0, 0]] * 9, np.array([0.5, 0.5]))
    assert recalls[0] == 1.0 and np.isnan(recalls[1])
    assert np.isnan(metrics.prior_corrected(np.array([0, 1]), np.eye(2), np.array([0.5, 0.5]))[0]).all()

import numpy as np
import pytest

from divaug.runs.decision import Decision

CLASSES = ("a", "b", "c")


def slow(rule, row):
    """The rule in words, image by image."""
    called = {c: row[i] / rule.thresholds[c] for i, c in enumerate(CLASSES) if c in rule.thresholds}
    called = {c: factor for c, factor in called.items() if factor >= 1}
    if called:
        return CLASSES.index(max(called, key=called.get))
    free = [i for i, c in enumerate(CLASSES) if c not in rule.thresholds]
    if not free:
        best = max(range(3), key=lambda i: row[i] / rule.thresholds[CLASSES[i]])
    else:
        best = max(free, key=lambda i: row[i])
    return best if row[best] >= rule.abstain else -1


@pytest.mark.parametrize(
    "thresholds", [{}, {"a": 0.3}, {"c": 0.05}, {"a": 0.4, "b": 0.2}, {"a": 0.5, "b": 0.4, "c": 0.3}]
)
@pytest.mark.parametrize("abstain", [0.0, 0.5, 0.9])
def test_decisions_are_those_of_the_rule(thresholds, abstain):
    rule = Decision(thresholds=thresholds, abstain=abstain)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    expected = [slow(rule, row) for row in probabilities]
    assert rule.decide(probabilities, CLASSES).tolist() == expected
    if not thresholds and not abstain:
        assert expected == probabilities.argmax(1).tolist()


def test_a_class_below_its_threshold_is_never_decided_while_another_has_none():
    rule = Decision(thresholds={"a": 0.9})
    assert rule.decide(np.array([[0.8, 0.15, 0.05]]), CLASSES).tolist() == [1]


def test_temperature_divides_the_logits():
    logits = np.array([[2.0, 0.0, -1.0]])
    hot, plain = (Decision(temperature=t).probabilities(logits)[0] for t in (2.0, 1.0))
    np.testing.assert_allclose(hot, np.exp(logits[0] / 2) / np.exp(logits[0] / 2).sum())
    assert hot.max() < plain.max() and hot.argmax() == plain.argmax()


def test_it_comes_back_from_its_table():
    rule = Decision(1.5, {"a": 0.25}, 0.4, {"a": "sensitivity 0.9"}, {"a": {"sensitivity": 0.9}})
    assert Decision(**rule.table()) == rule

import numpy as np
import pytest

from divaug.base.metrics import softmax
from divaug.base.stats import effective_number, wilson_interval
from divaug.runs.folder import RunFolder
from divaug.runs.threshold import temperature_of
from divaug.study.choice import choose, resampled
from divaug.study.own_images import _still_falling

CLASSES = ("a", "b", "rare")


def predictions(labels, accuracy, seed):
    rng = np.random.default_rng(seed)
    right = rng.random(len(labels)) < accuracy
    wrong = (labels + rng.integers(1, 3, len(labels))) % 3
    return 5.0 * np.eye(3)[np.where(right, labels, wrong)]


LABELS = np.repeat([0, 1, 2], (400, 300, 100))


def test_a_better_candidate_wins_and_equal_ones_do_not():
    logits = {
        "erm": predictions(LABELS, 0.7, 0),
        "better": predictions(LABELS, 0.9, 1),
        "equal": predictions(LABELS, 0.7, 5),
    }
    found = choose(logits, LABELS, None, CLASSES)
    assert found.winner == "better" and found.conclusion.startswith("Use better: +")
    assert found.conclusion.endswith(
        "] points of mean recall over erm, of the 3 of 3 classes with 20 tested images or more"
    )
    close = choose({"erm": logits["erm"], "equal": logits["equal"]}, LABELS, None, CLASSES)
    assert close.winner == "erm" and close.conclusion.startswith(
        "Use erm, the simplest: too close to call (points of mean recall of the "
    )
    assert "equal" in close.conclusion and "the 3 of 3 classes with 20 tested images or more" in close.conclusion
    worse = choose({"better": logits["better"], "erm": logits["erm"]}, LABELS, None, CLASSES)
    assert worse.winner == "better" and worse.conclusion.startswith("Use better, the simplest: the others are worse (")
    mixed = choose(
        {name: logits[name] for name in ("better", "erm")} | {"same": logits["better"]}, LABELS, None, CLASSES
    )
    assert mixed.conclusion.startswith("Use better, the simplest: too close to call against same; erm is worse (")


def test_recalls_and_intervals_are_of_pooled_counts():
    logits = {"erm": predictions(LABELS, 0.6, 0)}
    one = choose(logits, LABELS, None, CLASSES).candidates[0]
    for c, n in enumerate((400, 300, 100)):
        hit = (logits["erm"].argmax(1) == LABELS)[c == LABELS].mean()
        assert one.recalls[c] == pytest.approx(hit)
        assert one.intervals[c].tolist() == pytest.approx(list(wilson_interval(float(hit), n)))
    assert one.balanced == pytest.approx(one.recalls.mean())


def test_intervals_count_images_of_one_group_as_fewer():
    """By how alike the right class's probabilities are: of a class's images, and of those that are called one."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 25, len(LABELS))
    shifts = rng.normal(0, 1.5, 25)[groups]  # of the right class's logit
    values = rng.normal(0, 1, (len(LABELS), 3)) + (1.0 + shifts)[:, None] * np.eye(3)[LABELS]
    alone, one = (choose({"erm": values}, LABELS, g, CLASSES).candidates[0] for g in (None, groups))
    own = softmax(values / temperature_of(values, LABELS))[np.arange(len(LABELS)), LABELS]
    called = values.argmax(1)
    for c, n in enumerate((400, 300, 100)):
        tested, said = c == LABELS, called == c
        count = effective_number(own[tested], groups[tested])
        assert 10 < count < 0.6 * n and one.independent[c] == pytest.approx(count) and alone.independent[c] == n
        assert one.intervals[c].tolist() == pytest.approx(list(wilson_interval(float(one.recalls[c]), count)))
        right = c == LABELS[said]
        known = effective_number(own[said], groups[said])
        assert known < 0.9 * said.sum()
        expected = [right.mean(), *wilson_interval(float(right.mean()), known)]
        assert one.precisions[c].tolist() == pytest.approx(expected)
        expected = [right.mean(), *wilson_interval(float(right.mean()), int(said.sum()))]
        assert alone.precisions[c].tolist() == pytest.approx(expected)
    assert np.isnan(one.rare).all()  # every class is judged
    small = LABELS.copy()
    small[small == 2] = np.where(np.arange(100) < 15, 2, 1)
    few = choose({"erm": values}, small, groups, CLASSES).candidates[0]
    own = softmax(values / temperature_of(values, small))[np.arange(len(small)), small]
    tested = small == 2
    share, count = float(few.recalls[2]), effective_number(own[tested], groups[tested])
    assert few.rare == pytest.approx(wilson_interval(share, count)) and 1 < count < 15
    never = choose({"erm": np.where([True, False, False], 9.0, values)}, LABELS, groups, CLASSES).candidates[0]
    assert np.isnan(never.precisions[1:]).all() and not np.isnan(never.precisions[0]).any()


def test_small_classes_are_reported_and_never_concluded_from():
    labels = np.repeat([0, 1, 2], (400, 300, 10))
    base = predictions(labels, 0.8, 0)
    rescued = base.copy()
    rescued[labels == 2] = 5.0 * np.eye(3)[2]
    found = choose({"erm": base, "rescues": rescued}, labels, None, CLASSES)
    assert found.judged.tolist() == [True, True, False] and found.winner == "erm"
    assert found.candidates[1].recalls[2] == 1
    none = choose({"erm": base[labels == 2]}, labels[labels == 2], None, CLASSES)
    assert none.winner == "erm" and none.conclusion == "Use erm: nothing else was compared"
    tiny = dict.fromkeys(("erm", "x"), base[labels == 2])
    none = choose(tiny, labels[labels == 2], None, CLASSES)
    assert none.winner == "erm" and "no class has 20 tested images, so none is compared" in none.conclusion
    assert np.isnan(none.candidates[1].gains).all()


def test_images_of_one_group_are_resampled_together():
    """Ten groups that are right or wrong as a whole: the spread is that of ten, not of 800 images."""
    labels, groups = np.tile([0, 1], 400), np.repeat(np.arange(10), 80)
    base = np.ones(800, dtype=bool)
    other = base & ~np.isin(groups, (0, 1, 2))
    judged = np.array([True, True])
    by_group = resampled({"erm": base, "other": other}, labels, groups, judged)["other"].mean(1)
    by_image = resampled({"erm": base, "other": other}, labels, None, judged)["other"].mean(1)
    assert by_group.mean() == pytest.approx(-0.3, abs=0.02)
    assert by_group.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 10), rel=0.1)
    assert by_image.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 800), rel=0.15)


def test_a_difference_by_chance_is_rarely_called_a_winner():
    """Three equal candidates beside the first, 60 data sets: each would win wrongly in at most 5 % (3 of 60, 9 at 3 sd)."""
    wrong = 0
    for seed in range(60):
        logits = {name: predictions(LABELS, 0.7, 10 * seed + i) for i, name in enumerate(("erm", "x", "y", "z"))}
        wrong += choose(logits, LABELS, None, CLASSES, seed=seed).winner != "erm"
    assert wrong <= 9


@pytest.mark.parametrize(
    ("losses", "steep"),
    [
        ([2.0] * 8 + [1.5, 1.0], True),  # a third in the last epochs, and far from 0
        ([2.0] * 8 + [1.02, 1.0], False),  # hardly falling
        ([2.0] * 8 + [0.03, 0.01], False),  # nothing is left to learn: below a twentieth of chance's loss
    ],
)
def test_a_loss_is_still_falling_steeply_if_there_is_more_to_learn(losses, steep, tmp_path):
    run = RunFolder(tmp_path)
    for epoch, loss in enumerate(losses):
        run.metrics.append({"epoch": epoch, "metrics": {"train/loss": loss}, "per_class": {}})
    assert bool(_still_falling(run, 7)) is steep


def test_the_gain_of_a_class_has_an_interval_of_its_own():
    """One class of three gains: paired by image, 100 images, 30 of which only the other candidate gets right."""
    base = 5.0 * np.eye(3)[LABELS]
    base[LABELS == 2] = 5.0 * np.eye(3)[np.where(np.arange(100) < 50, 2, 0)]
    other = 5.0 * np.eye(3)[LABELS]
    other[LABELS == 2] = 5.0 * np.eye(3)[np.where(np.arange(100) < 80, 2, 0)]
    gains = choose({"erm": base, "other": other}, LABELS, None, CLASSES).candidates[1].gains
    assert gains[:2].tolist() == [[0, 0, 0]] * 2 and gains[2, 0] == pytest.approx(30)
    half = 1.96 * 100 * np.sqrt(0.3 * 0.7 / 100)  # of the mean of 100 differences that are 0 or 1
    assert gains[2, 1:].tolist() == pytest.approx([30 - half, 30 + half], abs=1.5)


def test_resamples_without_any_judged_class_are_left_out(monkeypatch):
    """24 images of the only judged class in two of six groups: one resample in eleven holds neither."""
    monkeypatch.setattr("divaug.study.choice.GROUPS", 2)
    labels = np.repeat([0, 1, 2], (24, 12, 12))
    groups = np.concatenate([np.repeat([0, 1], 12), np.repeat([2, 3], 6), np.repeat([4, 5], 6)])
    base, other = 5.0 * np.eye(3)[labels], 5.0 * np.eye(3)[np.where(np.arange(48) < 3, 1, labels)]
    found = choose({"erm": base, "other": other}, labels, groups, CLASSES)
    assert found.judged.tolist() == [True, False, False]
    assert np.isfinite(found.candidates[1].difference).all() and "nan" not in found.conclusion
    assert np.isfinite(found.candidates[1].gains[0]).all()


@pytest.mark.parametrize(("count", "chosen"), [(9, "erm"), (10, "other")])
def test_few_groups_compare_nothing(count, chosen):
    """Images of rare classes that are not judged bring no group that counts."""
    labels = np.append(np.repeat([0, 1], 100), [2] * 12)
    groups = np.append(np.arange(200) % count, 100 + np.arange(12))
    base, other = 5.0 * np.eye(3)[np.where(np.arange(212) % 3 == 0, 2, labels)], 5.0 * np.eye(3)[labels]
    found = choose({"erm": base, "other": other}, labels, groups, CLASSES)
    assert found.winner == chosen and choose({"erm": base, "other": other}, labels, None, CLASSES).winner == "other"
    if count < 10:
        assert "the simplest: 9 groups are too few to compare methods (10 are needed)" in found.conclusion
        second = found.candidates[1]
        assert (
            second.difference[0] > 0 and np.isnan(second.difference[1:]).all() and np.isnan(second.gains[:, 1:]).all()
        )
        assert second.gains[:2, 0] == pytest.approx(100 * (second.recalls - found.candidates[0].recalls)[:2])

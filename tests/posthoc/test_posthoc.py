import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from divaug import POSTHOC
from divaug.base.errors import ConfigError
from divaug.latent import Embeddings
from divaug.models.heads import CosineHead, LinearHead
from divaug.posthoc._head import train_head
from divaug.posthoc._oversample import _nearest, eos, ros, smote

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2, 3], [60, 25, 8, 1])
FEATURES = (RNG.normal(size=(94, 5)) + 2.0 * LABELS[:, None]).astype(np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def neighbours_by_loops(points, k):
    found = []
    for i in range(len(points)):
        others = [(float(np.linalg.norm(points[i].astype(float) - points[j])), j) for j in range(len(points)) if j != i]
        found.append([j for _, j in sorted(others)[:k]])
    return found


def test_nearest_against_loops_and_with_duplicates():
    assert _nearest(FEATURES, 4).tolist() == neighbours_by_loops(FEATURES, 4)
    copies = np.zeros((5, 2), dtype=np.float32)
    found = _nearest(copies, 2)  # every row is at distance 0 of every other: none may be its own neighbour
    assert (found != np.arange(5)[:, None]).all() and found.shape == (5, 2)


@pytest.mark.parametrize("method", [ros, smote, eos])
def test_every_class_becomes_as_large_as_the_largest(method):
    made, classes, bases = method(FEATURES, LABELS, neighbours=10, rng=rng())
    total = np.bincount(LABELS, minlength=4) + np.bincount(classes, minlength=4)
    assert total.tolist() == [60] * 4 and made.dtype == np.float32 and made.shape[1] == 5
    assert not len(method(FEATURES[:20], np.arange(20) % 2, neighbours=3, rng=rng())[1])  # balanced already
    assert (LABELS[bases] == classes).all()  # each is made from an image of its class
    again, *_ = method(FEATURES, LABELS, neighbours=10, rng=rng())
    assert (made == again).all()


def pairs_of(point, starts, ends):
    """Index pairs (s, e) whose segment holds the point."""
    found = []
    for s in starts:
        for e in ends:
            along, offset = FEATURES[e] - FEATURES[s], point - FEATURES[s]
            r = float(offset @ along / max(along @ along, 1e-12))
            if -1e-4 <= r <= 1 + 1e-4 and np.linalg.norm(offset - r * along) < 1e-3:
                found.append((s, e))
    return found


def test_smote_stays_between_neighbours_of_the_class():
    made, classes, bases = smote(FEATURES, LABELS, neighbours=3, rng=rng())
    for c in (1, 2):
        members = np.flatnonzero(c == LABELS)
        near = neighbours_by_loops(FEATURES[members], 3)
        allowed = {(members[i], members[j]) for i, row in enumerate(near) for j in row}
        for point, base in zip(made[classes == c][:12], bases[classes == c], strict=False):
            assert allowed & set(pairs_of(point, [base], members))
    assert (made[classes == 3] == FEATURES[LABELS == 3]).all()  # one embedding: copies


def test_smote_is_distributed_as_in_imbalanced_learn():
    from imblearn.over_sampling import SMOTE

    features, labels = FEATURES[LABELS < 3].astype(float), LABELS[LABELS < 3]
    theirs, classes = SMOTE(k_neighbors=3, random_state=0).fit_resample(np.tile(features, (1, 1)), labels)
    theirs, classes = theirs[len(labels) :], classes[len(labels) :]
    ours = [smote(features, labels, neighbours=3, rng=rng(seed)) for seed in range(8)]
    for c in (1, 2):
        mine = np.concatenate([made[of == c] for made, of, _ in ours])
        for d in range(5):
            assert ks_2samp(mine[:, d], theirs[classes == c][:, d]).pvalue > 1e-3


def test_eos_lies_on_the_way_to_an_enemy_among_the_neighbours():
    made, classes, bases = eos(FEATURES, LABELS, neighbours=6, rng=rng())
    near = neighbours_by_loops(FEATURES, 6)
    for c in (1, 2, 3):
        members = np.flatnonzero(c == LABELS)
        allowed = {(i, j) for i in members for j in near[i] if LABELS[j] != c}
        if not allowed:
            assert not (classes == c).any()
            continue
        for point, base in zip(made[classes == c][:12], bases[classes == c], strict=False):
            assert allowed & set(pairs_of(point, [base], range(94)))


def test_a_class_without_enemies_gets_nothing_and_the_others_theirs():
    far = np.concatenate([FEATURES, 1000 + RNG.normal(size=(7, 5)).astype(np.float32)])
    labels = np.concatenate([LABELS, np.full(7, 4)])
    _, classes, _ = eos(far, labels, neighbours=5, rng=rng())  # the authors' code crashes here
    assert not (classes == 4).any() and (classes == 1).sum() == 35


def test_a_new_head_learns_and_its_order_is_seeded():
    torch.manual_seed(0)
    heads = [torch.nn.Linear(5, 4) for _ in range(2)]
    heads[1].load_state_dict(heads[0].state_dict())
    for head in heads:
        train_head(head, FEATURES, LABELS, epochs=20, seed=3, batch_size=32)
    assert torch.equal(heads[0].weight, heads[1].weight)
    right = (heads[0](torch.from_numpy(FEATURES)).argmax(1).numpy() == LABELS).mean()
    assert right > 0.85


NAMES = ("a", "b", "c", "d")
BUNDLE = Embeddings(FEATURES, LABELS, NAMES)


def trained_head():
    torch.manual_seed(2)
    head = LinearHead(5, 4)
    train_head(head, FEATURES, LABELS, epochs=20, batch_size=32)
    return head


def fitted(name, head=None, validation=None, **options):
    def new_head():
        torch.manual_seed(3)
        return LinearHead(5, 4)

    component = POSTHOC.build(name, facts={"new_head": new_head, "seed": 7, "validation": validation}, **options)
    return component.fit(BUNDLE, head or trained_head(), rng()), component


def logits(head, features=FEATURES):
    with torch.no_grad():
        return head(torch.from_numpy(features)).numpy()


def test_nearest_mean_is_scikit_learns():
    from sklearn.neighbors import NearestCentroid

    points = np.random.default_rng(5).normal(3, 3, size=(500, 5)).astype(np.float32)
    theirs = NearestCentroid().fit(FEATURES, LABELS).predict(points)
    assert (logits(fitted("nearest_mean")[0], points).argmax(1) == theirs).all()


def test_the_support_vector_machine_is_scikit_learns_whatever_the_length():
    from sklearn.svm import LinearSVC

    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    machine = LinearSVC(C=0.5, fit_intercept=False, dual="auto").fit(unit, LABELS)
    head, _ = fitted("linear_svm", penalty=0.5)
    np.testing.assert_allclose(logits(head, unit), machine.decision_function(unit), atol=1e-4)
    assert (logits(head, 7 * FEATURES).argmax(1) == machine.predict(unit)).all()


def test_two_classes_are_two_rows_of_weights():
    """scikit-learn keeps one row for two classes; of four classes here two have images."""
    from sklearn.svm import LinearSVC

    points, labels = np.random.default_rng(4).normal(size=(40, 5)).astype(np.float32), np.repeat([1, 2], 20)
    points[labels == 2] += 1
    bundle = Embeddings(points, labels, NAMES)
    head = POSTHOC.build("linear_svm", facts={}).fit(bundle, trained_head(), rng())
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    theirs = LinearSVC(fit_intercept=False, dual="auto").fit(unit, labels).predict(unit)
    assert set(theirs) == {1, 2} and (logits(head, points).argmax(1) == theirs).all()


def test_classes_without_images_are_never_predicted():
    bundle = Embeddings(FEATURES[LABELS > 0], LABELS[LABELS > 0], NAMES)
    for name in ("nearest_mean", "linear_svm"):
        head = POSTHOC.build(name, facts={}).fit(bundle, trained_head(), rng())
        assert 0 not in logits(head).argmax(1)


@pytest.mark.parametrize("tau", [0.0, 0.7, 2.0])
def test_tau_normalisation_is_its_equation(tau):
    head = trained_head()
    w = head.weight.detach().double().numpy()
    expected = FEATURES @ (w / np.array([[np.sqrt((row**2).sum()) ** tau] for row in w])).T
    np.testing.assert_allclose(logits(fitted("tau_norm", head, tau=tau)[0]), expected, rtol=1e-5, atol=1e-6)


def test_tau_is_chosen_on_the_validation_part_by_mean_recall():
    head = trained_head()
    held_out = Embeddings(FEATURES[::3], LABELS[::3], NAMES, split="val")
    found, component = fitted("tau_norm", head, held_out)
    best = {}
    for tau in [round(0.1 * k, 1) for k in range(21)]:
        guess = logits(fitted("tau_norm", head, tau=tau)[0], held_out.features).argmax(1)
        hits = [np.mean(guess[held_out.labels == c] == c) for c in range(4) if (held_out.labels == c).any()]
        best[tau] = float(np.mean(hits))
    wanted = max(best, key=best.get)
    assert component.notes == [f"tau_norm: tau {wanted:g}, chosen on the validation part"]
    np.testing.assert_allclose(logits(found), logits(fitted("tau_norm", head, tau=wanted)[0]))
    assert len(set(best.values())) > 1  # it matters
    without, component = fitted("tau_norm", head)
    assert "tau 1, since the run has no validation part" in component.notes[0]
    np.testing.assert_allclose(logits(without), logits(fitted("tau_norm", head, tau=1.0)[0]))


def test_adjustment_takes_the_log_of_the_shares_from_the_logits():
    head = trained_head()
    shares = np.log(np.array([60, 25, 8, 1]) / 94)
    np.testing.assert_allclose(
        logits(fitted("logit_adjustment", head, tau=0.6)[0]), logits(head) - 0.6 * shares, atol=1e-5
    )
    probabilities = np.exp(logits(head)) / np.exp(logits(head)).sum(1, keepdims=True)
    thresholded = (probabilities / np.exp(shares)).argmax(1)  # Buda's
    assert (logits(fitted("logit_adjustment", head)[0]).argmax(1) == thresholded).all()


def test_scaling_keeps_directions_and_lifts_small_classes():
    head = trained_head()
    found, _ = fitted("lws", head, epochs=30)
    factor = found.weight.detach().numpy() / head.weight.detach().numpy()
    np.testing.assert_allclose(factor, np.repeat(factor[:, :1], 5, axis=1), rtol=1e-4)
    np.testing.assert_allclose(found.bias.detach().numpy(), factor[:, 0] * head.bias.detach().numpy(), rtol=1e-4)
    assert np.ptp(factor[:, 0]) > 0.05
    assert balanced_loss(found) < balanced_loss(head)


def test_factors_that_turn_a_class_around_are_named():
    """At an absurd rate the first step carries factors below 0."""
    found, component = fitted("lws", trained_head(), lr=500.0, epochs=1)
    factor = found.weight.detach().numpy()[:, 0] / trained_head().weight.detach().numpy()[:, 0]
    turned = np.flatnonzero(factor <= 0).tolist()
    assert turned and component.notes == [
        f"lws: the factors of classes number {turned} fell to 0 or below: lower --head-lr"
    ]
    assert fitted("lws", trained_head(), lr=0.001)[1].notes == []


def balanced_loss(head):
    z = logits(head).astype(float)
    rows = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), LABELS]
    return np.mean([rows[c == LABELS].mean() for c in range(4)])


def test_a_retrained_classifier_sees_every_class_equally_often():
    """Beside the same training on the rows as they are, its mean loss over classes is lower and its loss over rows higher."""
    balanced, plain = fitted("crt", epochs=30)[0], fitted("none", epochs=30)[0]
    assert balanced_loss(balanced) < balanced_loss(plain)
    z = {head: logits(head).astype(float) for head in (balanced, plain)}
    rows = {head: (np.log(np.exp(v).sum(1)) - v[np.arange(94), LABELS]).mean() for head, v in z.items()}
    assert rows[balanced] > rows[plain]


@pytest.mark.parametrize("name", ["lws", "tau_norm", "logit_adjustment"])
def test_what_changes_a_linear_head_refuses_another(name):
    with pytest.raises(ConfigError, match=f"{name} changes the weights of a linear head, and this is a CosineHead"):
        fitted(name, CosineHead(5, 4))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("crt", {"epochs": 0}, "epochs must be >= 1, got 0"),
        ("lws", {"lr": 0.0}, "lr must be > 0, got 0"),
        ("eos", {"neighbours": 0}, "neighbours must be >= 1, got 0"),
        ("smote", {"lr": -1.0}, "lr must be > 0, got -1"),
        ("tau_norm", {"tau": -0.5}, "tau must be >= 0, got -0.5"),
        ("linear_svm", {"penalty": 0.0}, "penalty must be > 0, got 0"),
        ("none", {"lr": 0.0}, "lr must be > 0, got 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, said):
    with pytest.raises(ConfigError, match=said):
        fitted(name, **options)

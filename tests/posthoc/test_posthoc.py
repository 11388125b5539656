import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from divaug.posthoc.head import train_head
from divaug.posthoc.oversample import _nearest, eos, none, ros, smote

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
    assert not len(none(FEATURES, LABELS, neighbours=10, rng=rng())[1])
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

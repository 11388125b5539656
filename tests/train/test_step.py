"""Steps followed by hand, with everything on: what each wire carries, and what the counts say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from divaug.base.contracts import Batch, Donors, complete
from divaug.base.errors import DivaugError
from divaug.base.labels import MixedLabels
from divaug.base.rng import stream, torch_seed
from divaug.data.images import Part
from divaug.data.loaders import Loader
from divaug.latent.monitor import TopKMonitor
from divaug.losses.ce import CrossEntropy
from divaug.models.heads import LinearHead
from divaug.models.network import Network
from divaug.pixel.none import NoPixel
from divaug.train.epoch import draw_rows, train_epoch, views
from divaug.train.evaluate import evaluate, evaluating, predictor
from divaug.train.step import Contract, GradientCheck, Stage, Totals

CPU = torch.device("cpu")
SEED, EPOCH, EPOCHS = 5, 1, 4
IMAGES = np.random.default_rng(0).integers(0, 200, (7, 4, 4, 1), dtype=np.uint8)
LABELS = np.array([0, 0, 0, 1, 1, 2, 2])
WEIGHTS = [0.5, 1.0, 4.0]
A = np.array([[1.0, 0.2, 0.0, 0.1], [0.0, -1.0, 0.3, 0.0], [0.5, 0.0, 0.7, 0.2]])
W = np.array([[0.3, -0.2, 0.1], [0.0, 0.4, -0.1], [-0.3, 0.2, 0.5]])


class FirstRow(nn.Module):
    """Embeddings are A times the first row of pixels."""

    feature_dim = 3

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(A, dtype=torch.float32))

    def forward(self, images):
        return images[:, 0, 0] @ self.a.T


class Backwards:
    """A sampler that draws; it remembers what it was told."""

    def draw(self, rng, progress):
        self.progress = progress
        return torch.from_numpy(rng.permutation(7))

    def class_probs(self, progress):
        return torch.ones(3) / 3


class Brighten:
    """Adds up to 40, nothing to every other row; which ones depends on the labels."""

    def sample(self, labels, size, rng):
        return rng.integers(1, 40, len(labels)) * ((np.arange(len(labels)) + labels.numpy()) % 2)

    def apply_one(self, image, plan, i):
        return image + np.uint8(plan[i])


class ThreeQuarters:
    """Keeps 3/4 of each image and takes the rest from a donor that the labels choose."""

    def donors(self, labels, rng):
        return torch.from_numpy(rng.integers(7, size=len(labels)))

    def sample(self, labels, size, rng):
        return rng.random(len(labels)) < 0.8

    def apply(self, images, labels, plan, donors=None):
        taken = torch.from_numpy(plan)
        share = torch.where(taken, 0.75, 1.0)
        mixed = taken & torch.from_numpy(~donors.own)
        out = share[:, None, None, None] * images + (1 - share)[:, None, None, None] * donors.images
        return out, MixedLabels(torch.stack([labels, donors.labels], 1), torch.stack([share, 1 - share], 1), mixed)


class Behind(nn.Module):
    """Moves every embedding by a draw and puts twice the first row, as class 2, behind the batch."""

    def forward(self, z, target, rng):
        z = z + float(rng.random())
        ids = torch.cat([target.ids, torch.tensor([[2, 2]])])
        weights = torch.cat([target.weights, torch.tensor([[1.0, 0.0]])])
        mixed = torch.cat([target.is_mixed(), torch.tensor([False])])
        return torch.cat([z, 2 * z[:1]]), MixedLabels(ids, weights, mixed)


class Recorder:
    def __init__(self):
        self.seen = []

    def update(self, z, target, head):
        self.seen.append((z.clone(), target, head.weight.detach().clone()))

    compute = reset = state_dict = load_state_dict = lambda self, *a: None


def made():
    network = Network(FirstRow(), LinearHead(3, 3))
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor(W))
        network.head.bias.zero_()
    loader = Loader(Part(IMAGES, LABELS), mean=(0.5,), std=(0.25,), batch_size=4, device=CPU)
    parts = Backwards(), complete(Brighten()), complete(ThreeQuarters()), Behind(), CrossEntropy()
    return network, loader, Stage(0, *parts, torch.tensor(WEIGHTS))


def rate(step):
    return 0.1 * (step + 1)


def train(network, loader, stage, totals, **more):
    optimizer = torch.optim.SGD(network.parameters(), lr=99.0)
    place = {"seed": SEED, "epoch": EPOCH, "epochs": EPOCHS, "learning_rate": rate}
    return train_epoch(network, loader, stage, optimizer, totals=totals, **(place | more))


def follow():
    """Two steps in numpy: yields what goes in and out of each, and the parameters after it."""
    a, w, b = A.copy(), W.copy(), np.zeros(3)
    drawn = np.random.Generator.permutation(stream(SEED, "sampler", EPOCH), 7)
    for step, rows in enumerate((drawn[:4], drawn[4:])):
        n, ids = len(rows), LABELS[rows]
        add = stream(SEED, "pixel", EPOCH, step).integers(1, 40, n) * ((np.arange(n) + ids) % 2)
        donors = stream(SEED, "donors", EPOCH, step).integers(7, size=n)
        donor_odd = (np.arange(n) + LABELS[donors]) % 2
        donor_add = stream(SEED, "pixel_donors", EPOCH, step).integers(1, 40, n) * donor_odd
        taken = stream(SEED, "mix", EPOCH, step).random(n) < 0.8
        own = (IMAGES[rows] + add[:, None, None, None].astype(np.uint8)) / 255
        given = (IMAGES[donors] + donor_add[:, None, None, None].astype(np.uint8)) / 255
        share = np.where(taken, 0.75, 1.0)
        x = (share[:, None, None, None] * own + (1 - share)[:, None, None, None] * given - 0.5) / 0.25
        z = x[:, 0, :, 0] @ a.T
        moved = z + stream(SEED, "feature", EPOCH, step).random()
        moved = np.concatenate([moved, 2 * moved[:1]])
        label = np.zeros((n + 1, 3))
        label[np.arange(n), ids] += share
        label[np.arange(n), LABELS[donors]] += 1 - share
        label[n, 2] = 1
        p = np.exp(moved @ w.T + b)
        p /= p.sum(1, keepdims=True)
        scale = label * WEIGHTS  # of each row and class: label weight times class weight
        loss = -(scale * np.log(p)).sum() / scale.sum()
        d_logits = (scale.sum(1, keepdims=True) * p - scale) / scale.sum()
        d_moved = d_logits @ w
        d_z = d_moved[:n].copy()
        d_z[0] += 2 * d_moved[n]
        lr = rate(step)
        before_w = w.copy()
        w, b, a = w - lr * d_logits.T @ moved, b - lr * d_logits.sum(0), a - lr * d_z.T @ x[:, 0, :, 0]
        two = taken & (donors != rows)
        top = np.where(share >= 0.5, ids, LABELS[donors])
        yield {
            "rows": rows, "ids": ids, "x": x, "z": z, "w": before_w, "label": label, "loss": loss, "a": a, "w_after": w, "b": b,
            "changed": add > 0, "donors": donors, "two": two, "right": (p[:n].argmax(1) == top).sum(),
        }  # fmt: skip


def by_class(labels, values=None):
    return np.bincount(labels, weights=values, minlength=3)


def test_two_steps_by_hand():
    network, loader, stage = made()
    monitor, watched, totals = Recorder(), [], Totals.empty(3, 7)
    assert train(network, loader, stage, totals, monitor=monitor, watch=lambda *seen: watched.append(seen))
    steps = list(follow())
    last = steps[-1]
    np.testing.assert_allclose(network.backbone.a.detach(), last["a"], atol=1e-5)
    np.testing.assert_allclose(network.head.weight.detach(), last["w_after"], atol=1e-5)
    np.testing.assert_allclose(network.head.bias.detach(), last["b"], atol=1e-5)
    assert stage.sampler.progress == EPOCH / EPOCHS
    for step, (z, target, weight), (images, shown) in zip(steps, monitor.seen, watched, strict=True):
        np.testing.assert_allclose(images.permute(0, 2, 3, 1), step["x"], atol=1e-5)  # after mixing
        np.testing.assert_allclose(z, step["z"], atol=1e-5)  # before the feature component
        np.testing.assert_allclose(weight, step["w"], atol=1e-6)  # before the step
        n = len(step["rows"])
        for seen in (target, shown):
            dense = torch.zeros(n, 3).scatter_add_(1, seen.ids, seen.weights).numpy()
            np.testing.assert_allclose(dense, step["label"][:n], atol=1e-6)
            assert (seen.is_mixed().numpy() == step["two"]).all()
    rows, ids, donors = (np.concatenate([s[k] for s in steps]) for k in ("rows", "ids", "donors"))
    two, changed = (np.concatenate([s[k] for s in steps]) for k in ("two", "changed"))
    assert (totals.steps, totals.rows, int(totals.correct)) == (2, 7, sum(s["right"] for s in steps))
    assert totals.loss.item() == pytest.approx(sum(s["loss"] * len(s["rows"]) for s in steps), rel=1e-5)
    assert totals.seen.tolist() == by_class(ids).tolist() == [3, 2, 2]
    assert totals.augmented.tolist() == by_class(ids, changed).tolist()
    assert totals.receivers.tolist() == by_class(ids, two).tolist()
    assert totals.givers.tolist() == by_class(LABELS[donors], two).tolist()
    np.testing.assert_allclose(totals.mass, sum(s["label"].sum(0) for s in steps), atol=1e-6)
    np.testing.assert_allclose(totals.synthetic, [0, 0, 2], atol=1e-6)
    assert totals.visits.tolist() == [1] * 7 and sorted(rows) == list(range(7))
    assert totals.donations.tolist() == np.bincount(donors, weights=two, minlength=7).tolist()


def test_the_classes_differ_in_what_is_counted():
    """Else an exchange of labels, donors and rows could pass unseen."""
    steps = list(follow())
    two = np.concatenate([s["two"] for s in steps])
    assert 3 <= two.sum() < 7 and any((s["ids"] != LABELS[s["donors"]]).any() for s in steps)


def test_who_receives_and_who_gives_is_counted_by_position_not_by_weight():
    """The first label is the row's own, however small its weight; the others are those mixed in."""
    totals, labels = Totals.empty(4, 9), torch.tensor([0, 1, 2, 3])
    ids = torch.tensor([[0, 3], [1, 0], [2, 2], [3, 1]])
    weights = torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.6, 0.4], [0.2, 0.8]])
    target = MixedLabels(ids, weights)
    indices, given = np.array([8, 0, 5, 5]), np.array([1, 2, 3, 4])
    changed = torch.tensor([True, False, False, True])
    donors = Donors(torch.zeros(4, 1, 1, 1), ids[:, 1], given, np.zeros(4, bool))
    totals.count(Batch(torch.zeros(4, 1, 1, 1), labels, indices, changed, donors), labels, target, target)
    assert totals.receivers.tolist() == [1, 0, 1, 1] and totals.givers.tolist() == [0, 1, 1, 1]
    assert totals.seen.tolist() == [1, 1, 1, 1] and totals.augmented.tolist() == [1, 0, 0, 1]
    np.testing.assert_allclose(totals.mass, [0.3, 1.8, 1.0, 0.9], rtol=1e-6)
    assert totals.visits.tolist() == [1, 0, 0, 0, 0, 2, 0, 0, 1] and totals.donations.tolist() == [
        0,
        1,
        0,
        1,
        1,
        0,
        0,
        0,
        0,
    ]


def test_a_view_is_of_the_image_that_its_row_had_before_mixing():
    class Redrawn:
        def sample(self, labels, size, rng):
            return np.arange(len(labels))[::-1].copy()

        def made_of(self, plan, rows):
            return plan

        def apply(self, images, labels, plan, donors=None):
            return images[plan], MixedLabels.hard(labels[plan])

    _, loader, stage = made()
    stage = replace(stage, mix=complete(Redrawn()), pixel=complete(NoPixel()))
    drawn = draw_rows(stage, 7, seed=SEED, epoch=EPOCH, epochs=EPOCHS)
    for view in views(loader, stage, drawn, seed=SEED, epoch=EPOCH):
        assert torch.equal(loader.denormalize(view.images), torch.from_numpy(IMAGES[view.made_of]))
        assert view.made_of.tolist() == view.batch.indices[::-1].tolist() != view.batch.indices.tolist()


def test_an_epoch_stops_after_a_step_and_goes_on_from_there():
    whole, loader, stage = made()
    train(whole, loader, stage, Totals.empty(3, 7))
    network, _, _ = made()
    totals, optimizer = Totals.empty(3, 7), torch.optim.SGD(network.parameters(), lr=99.0)
    place = {"seed": SEED, "epoch": EPOCH, "epochs": EPOCHS, "learning_rate": rate, "totals": totals}
    assert not train_epoch(network, loader, stage, optimizer, after_step=lambda: True, **place)
    assert (totals.steps, totals.rows) == (1, 4)
    assert train_epoch(
        network, loader, stage, optimizer, after_step=lambda: True, **place
    )  # the last step: done anyway
    for ours, theirs in zip(network.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_layers_that_draw_by_themselves_are_seeded_by_step():
    class Noisy(FirstRow):
        def forward(self, images):
            drawn.append(torch.rand(1).item())
            return super().forward(images)

    _, loader, stage = made()
    drawn = []
    train(Network(Noisy(), LinearHead(3, 3)), loader, stage, Totals.empty(3, 7))
    wanted = [
        torch.rand(1, generator=torch.Generator().manual_seed(torch_seed(stream(SEED, "layers", EPOCH, step)))).item()
        for step in (0, 1)
    ]
    assert drawn == wanted


def test_replayed_views_are_those_that_training_saw():
    network, loader, stage = made()
    watched = []
    train(network, loader, stage, Totals.empty(3, 7), watch=lambda *seen: watched.append(seen))
    drawn = draw_rows(stage, 7, seed=SEED, epoch=EPOCH, epochs=EPOCHS)
    again = list(views(loader, stage, drawn, seed=SEED, epoch=EPOCH))
    assert [view.step for view in again] == [0, 1]
    assert np.concatenate([view.made_of for view in again]).tolist() == drawn.tolist()
    for view, (images, target) in zip(again, watched, strict=True):
        assert torch.equal(view.images, images) and torch.equal(view.target.weights, target.weights)
    (late,) = views(loader, stage, drawn, seed=SEED, epoch=EPOCH, first_step=1)
    assert late.step == 1 and torch.equal(late.images, again[1].images)


def test_a_sampler_must_cost_the_same_steps():
    network, loader, stage = made()
    stage.sampler.draw = lambda rng, progress: torch.arange(6)
    with pytest.raises(
        DivaugError, match="Backwards drew 6 images instead of 7: every sampler must cost the same steps"
    ):
        train(network, loader, stage, Totals.empty(3, 7))


def test_labels_that_the_loop_did_not_draw_stop_it():
    network, loader, stage = made()
    totals = Totals.empty(3, 7)
    totals.seen[0] += 1
    with pytest.raises(DivaugError, match=r"the loop saw labels \[4, 2, 2\], but the sampler drew \[3, 2, 2\]"):
        train(network, loader, stage, totals)


def test_evaluation_puts_the_mode_back_and_uses_running_statistics():
    network = Network(nn.Sequential(FirstRow(), nn.BatchNorm1d(3)), LinearHead(3, 3))
    loader = Loader(Part(IMAGES, LABELS), mean=(0.5,), std=(0.25,), batch_size=4, device=CPU)
    x = torch.from_numpy((IMAGES[:, 0, :, 0] / 255 - 0.5) / 0.25).float()
    wanted = (x @ torch.tensor(A, dtype=torch.float32).T) / (1 + 1e-5) ** 0.5  # mean 0, variance 1: never trained
    for mode in (True, False):
        network.train(mode)
        found = evaluate(network, loader.in_order(batch_size=3))
        assert network.training is mode and network.backbone[1].training is mode
        np.testing.assert_allclose(found.embeddings, wanted, atol=1e-5)
        np.testing.assert_allclose(found.logits, network.head(wanted).detach(), atol=1e-5)
        assert found.labels.tolist() == LABELS.tolist()
        told = predictor(network, loader.normalize)(torch.from_numpy(IMAGES))
        assert told.tolist() == found.logits.argmax(1).tolist() and network.training is mode
    network.train()
    with pytest.raises(ZeroDivisionError), evaluating(network):
        1 / 0  # noqa: B018
    assert network.training


def test_a_bad_gradient_is_told_at_once_or_at_the_end():
    network, _, _ = made()
    said = r"not finite \(norm nan, loss 3.0\) at epoch 2, step 1, learning rate 0.2, labels \[2, 0\]; lower --lr"
    losses, labels = torch.tensor([1.0, 3.0, 5.0]), [torch.tensor([1, 1]), torch.tensor([2, 0]), torch.tensor([0, 0])]
    for at_once in (True, False):
        check = GradientCheck(CPU, at_once=at_once)

        def look(step, check=check):
            for p in network.parameters():
                p.grad = torch.full_like(p, float("nan") if step >= 1 else 1.0)
            check.look(network, losses[step], 2, step, labels[step], 0.1 * (step + 1))

        look(0)
        check.settle()
        if at_once:
            with pytest.raises(DivaugError, match=said):
                look(1)
            continue
        look(0)
        look(1)
        look(2)  # the first bad one is told
        with pytest.raises(DivaugError, match=said):
            check.settle()


class NoWaiting(TorchDispatchMode):
    """Refuses operations that would make the host wait for an accelerator."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        masks = (
            [a for a in args[1] if a is not None and a.dtype == torch.bool] if name in ("index", "index_put_") else []
        )
        waits = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "is_nonzero", "_unique2", "unique_dim")
        assert name not in waits and not masks, f"{name} waits for the device"
        return function(*args, **(kwargs or {}))


def test_no_operation_of_a_step_waits_for_the_device(monkeypatch):
    """On the CPU too: the same operations run there. With the monitor, a common space's watch, a mix and class weights."""
    network, loader, stage = made()
    stage = Stage(0, stage.sampler, stage.pixel, stage.mix, NoFeature(), stage.criterion, stage.class_weights)
    monitor, space = TopKMonitor(3, 3, k=2), TopKMonitor(3, 4, k=2)
    asked = []
    monkeypatch.setattr("divaug.train.epoch.GradientCheck", Late)
    monkeypatch.setattr("divaug.train.epoch.Contract", LaterSteps)
    drawn, check = torch.arange(7), torch.bincount
    stage.sampler.draw = lambda rng, progress: drawn

    def watch(images, target):
        space.update(images[:, 0, 0], MixedLabels.hard(target.dominant()), None)

    def after_step():
        asked.append(1)
        return False

    monkeypatch.setattr("divaug.train.epoch.check_labels", lambda *a: None)  # once an epoch
    with NoWaiting():
        assert train(network, loader, stage, Totals.empty(3, 7), monitor=monitor, watch=watch, after_step=after_step)
    assert len(asked) == 2 and check is torch.bincount


class Late(GradientCheck):
    def __init__(self, device):
        super().__init__(device, at_once=False)

    def settle(self):
        pass


class LaterSteps(Contract):
    """As on an accelerator after the first step."""

    def __init__(self, stage, num_classes, device):
        super().__init__(stage, num_classes, device)
        self._always = self._first = False


class NoFeature(nn.Module):
    def forward(self, z, target, rng):
        return z, target


def test_the_loss_is_cross_entropy_where_nothing_is_mixed():
    network, loader, stage = made()

    class NoMixing:
        def sample(self, labels, size, rng):
            return None

        def apply(self, images, labels, plan, donors=None):
            return images, MixedLabels.hard(labels)

    plain = Stage(
        0, stage.sampler, stage.pixel, complete(NoMixing()), NoFeature(), stage.criterion, stage.class_weights
    )
    drawn = draw_rows(plain, 7, seed=SEED, epoch=EPOCH, epochs=EPOCHS)
    seen = list(views(loader, plain, drawn, seed=SEED, epoch=EPOCH))
    frozen = train(network, loader, plain, totals := Totals.empty(3, 7), learning_rate=lambda step: 0.0)
    wanted = sum(
        F.cross_entropy(network(view.images), view.labels, torch.tensor(WEIGHTS)).item() * len(view.labels)
        for view in seen
    )
    assert frozen and totals.loss.item() == pytest.approx(wanted, rel=1e-5)


class Bad:
    """A mix or feature component that returns what it is given."""

    def __init__(self, images=None, target=None):
        self.images, self.target = images, target

    def sample(self, labels, size, rng):
        return None

    def apply(self, images, labels, plan, donors=None):
        target = MixedLabels.hard(labels)
        return (
            images if self.images is None else self.images(images),
            target if self.target is None else self.target(target),
        )


NO_MIX = complete(Bad())


def flat(target):
    """Labels without a second dimension, as no annotation would let them be made."""
    made = MixedLabels(target.ids, target.weights)
    for name in ("ids", "weights"):
        object.__setattr__(made, name, getattr(target, name)[:, 0])
    return made


def weights(*row):
    return lambda target: MixedLabels(target.ids.expand(-1, len(row)), torch.tensor([row]).expand(len(target.ids), -1))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"target": weights(2.0, -1.0)}, r"the mix Bad returned the label weights \[2.0, -1.0\]"),
        ({"target": weights(0.8, 0.8)}, r"label weights \[0\.8\d*, 0\.8\d*\]: they must be >= 0 and sum to 1"),
        ({"target": weights(0.5)}, "sum to 1 in every row"),
        ({"target": lambda t: t.ids}, r"labels of torch.int64 \(4, 1\)"),
        ({"target": lambda t: MixedLabels(t.ids[:2], t.weights[:2])}, r"\(2, 1\).* for 4 rows"),
        ({"target": lambda t: MixedLabels(t.ids + 2, t.weights)}, "returned labels from"),
        ({"target": flat}, r"labels of torch.int64 \(4,\), torch.float32 \(4,\) for 4 rows"),
        ({"images": lambda x: x.double()}, "images of torch.float64"),
        ({"images": lambda x: x[0]}, r"images of torch.float32 \(1, 2, 2\)|images of torch.float32 \(\d, \d, \d\)"),
        ({"images": lambda x: None}, "images of NoneType"),
    ],
)
def test_a_mix_that_breaks_its_contract_is_named_at_the_first_step(parts, said):
    """By the contract itself, because annotations are checked before it in tests; and by the loop, where it comes first."""
    network, loader, stage = made()
    stage = replace(stage, mix=complete(Bad(**parts)))
    contract, batch = (
        Contract(stage, 3, CPU),
        next(loader.epoch(np.arange(7), pixel=stage.pixel, mix=NO_MIX, seed=0, epoch=0)),
    )
    with pytest.raises(DivaugError, match=said):
        contract.mixed(batch, *stage.mix.apply(batch.images, batch.labels, None))
    with pytest.raises((DivaugError, TypeCheckError)):
        train(network, loader, stage, Totals.empty(3, 7))
    assert torch.equal(network.head.weight, torch.tensor(W).float())  # nothing was learned


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda z, t: (z[:, :2], t), r"embeddings of torch.float32 \(4, 2\) for torch.float32 \(4, 3\)"),
        (lambda z, t: (z[:2], MixedLabels(t.ids[:2], t.weights[:2])), r"\(2, 3\)"),
        (lambda z, t: (torch.cat([z, z]), t), "labels of .* for 8 rows"),
        (lambda z, t: (z, MixedLabels(t.ids, t.weights * 1.6)), "sum to 1"),
        (lambda z, t: (None, t), "NoneType"),
    ],
)
def test_a_feature_component_that_breaks_its_contract_is_named(change, said):
    class Wrong(nn.Module):
        def forward(self, z, target, rng):
            return change(z, target)

    network, loader, stage = made()
    with pytest.raises(DivaugError, match=f"the feature component Wrong .*{said}"):
        train(network, loader, replace(stage, feature=Wrong()), Totals.empty(3, 7))


def test_on_an_accelerator_values_are_looked_at_in_the_first_step():
    _, _, stage = made()
    images, labels = torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])
    batch = Batch(images, labels, np.arange(2), torch.zeros(2, dtype=torch.bool))
    contract, right = Contract(stage, 3, torch.device("cuda")), MixedLabels.hard(labels)
    wrong = MixedLabels(right.ids, right.weights * 2)
    with pytest.raises(DivaugError, match="sum to 1"):
        contract.mixed(batch, images, wrong)
    contract.mixed(batch, images, right)
    contract.embedded(torch.zeros(2, 3), right, torch.zeros(2, 3))
    contract.classified(torch.zeros(2, 3), torch.zeros(2, 3))
    contract.mixed(batch, images, wrong)  # from the second step on the host does not wait for the values
    with pytest.raises(DivaugError, match="labels of"):
        contract.mixed(batch, images, right.ids)
    later = Contract(stage, 3, torch.device("cpu"))
    later.classified(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(DivaugError, match="sum to 1"):
        later.mixed(batch, images, wrong)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda values: values[:, None], r"the loss Strange returned \(\d, 1\) for \d rows"),
        (lambda values: values.mean(), r"the loss Strange returned \(\) for \d rows"),
        (lambda values: values[:2], r"returned \(2,\) for \d rows"),
    ],
)
def test_a_loss_of_another_shape_is_named(forward, said):
    class Strange(nn.Module):
        def forward(self, logits, ids):
            return forward(torch.nn.functional.cross_entropy(logits, ids, reduction="none"))

    network, loader, stage = made()
    with pytest.raises(DivaugError, match=said + ".*divaug.recipes.check"):
        train(network, loader, replace(stage, criterion=Strange()), Totals.empty(3, 7))


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (torch.arange(7, dtype=torch.int32), "drew torch.int32"), (torch.arange(7)[:, None], r"drew torch.int64 \(7, 1\)"),
        (torch.arange(7) + 1, "positions from 1 to 7; there are 7 images"), (torch.arange(7) - 1, "from -1 to 5"),
        (torch.arange(6), "drew 6 images instead of 7"), (np.arange(7), "drew ndarray"), (list(range(7)), "drew list"),
    ],
)  # fmt: skip
def test_a_sampler_that_breaks_its_contract_is_named(drawn, said):
    _, _, stage = made()
    stage.sampler.draw = lambda rng, progress: drawn
    with pytest.raises(DivaugError, match=said):
        draw_rows(stage, 7, seed=SEED, epoch=EPOCH, epochs=EPOCHS)


def test_what_a_component_raises_is_reported_by_its_name():
    """Whatever it is, also what Python itself would take for the end of a loop or of the program."""

    class Raises(nn.Module):
        def __init__(self, error):
            super().__init__()
            self.error = error

        def forward(self, *anything):
            raise self.error

        def draw(self, rng, progress):
            raise self.error

        def class_probs(self, progress):
            raise self.error

        def sample(self, labels, size, rng):
            raise self.error

        def apply(self, images, labels, plan, donors=None):
            raise self.error

    network, loader, stage = made()
    for error, said in (
        (KeyError("x"), "KeyError: 'x'"),
        (StopIteration(), "StopIteration"),
        (SystemExit(0), "SystemExit: 0"),
    ):
        for slot, name in (("sampler", "the sampler Raises"), ("mix", "the mix Raises"), ("criterion", "the loss Raises"),
                           ("feature", "the feature component Raises")):  # fmt: skip
            broken = Raises(error) if slot != "mix" else complete(Raises(error))
            with pytest.raises(DivaugError, match=f"{name} raised {said}"):
                train(network, loader, replace(stage, **{slot: broken}), Totals.empty(3, 7))
    for part, name in (("backbone", "the network Raises"), ("head", "the head Raises")):
        network, _, _ = made()
        setattr(network, part, Raises(KeyError("x")))
        with pytest.raises(DivaugError, match=f"{name} raised KeyError"):
            train(network, loader, stage, Totals.empty(3, 7))
    with pytest.raises(KeyboardInterrupt):
        train(network, loader, replace(stage, mix=complete(Raises(KeyboardInterrupt()))), Totals.empty(3, 7))


@pytest.mark.parametrize("rows", [2, 8])
def test_a_mix_returns_as_many_rows_as_it_says(rows):
    network, loader, stage = made()
    wrong = Bad(
        images=lambda x: torch.cat([x, x])[:rows],
        target=lambda t: MixedLabels(torch.cat([t.ids] * 2)[:rows], torch.cat([t.weights] * 2)[:rows]),
    )
    contract, batch = (
        Contract(stage, 3, CPU),
        next(loader.epoch(np.arange(7), pixel=stage.pixel, mix=NO_MIX, seed=0, epoch=0)),
    )
    with pytest.raises(DivaugError, match="returned images of"):
        contract.mixed(batch, *wrong.apply(batch.images, batch.labels, None), 4)
    contract.mixed(batch, *wrong.apply(batch.images, batch.labels, None), rows)  # as many as it says that it made
    with pytest.raises((DivaugError, TypeCheckError)):
        train(network, loader, replace(stage, mix=complete(wrong)), Totals.empty(3, 7))
    smaller = Bad(images=lambda x: x[:, :, ::2, ::2])
    with pytest.raises(DivaugError, match="the mix Bad returned images of"):
        train(network, loader, replace(stage, mix=complete(smaller)), Totals.empty(3, 7))


def test_what_is_not_finite_in_the_first_step_is_not_blamed_on_the_learning_rate():
    network, loader, stage = made()
    with pytest.raises(DivaugError, match="the mix Bad returned values that are not finite"):
        train(network, loader, replace(stage, mix=complete(Bad(images=lambda x: x / 0))), Totals.empty(3, 7))
    with torch.no_grad():
        network.head.weight[0, 0] = float("nan")
    with pytest.raises(DivaugError, match="the head returned values that are not finite in the first step"):
        train(network, loader, stage, Totals.empty(3, 7))
    network, _, _ = made()
    network.head.forward = lambda z: torch.zeros(len(z), 5)
    with pytest.raises(
        DivaugError, match=r"the head returned logits of torch.float32 \(\d, 5\) for \d rows, 3 classes"
    ):
        train(network, loader, stage, Totals.empty(3, 7))


def test_a_loss_that_is_not_finite_stops_training_though_its_gradient_is():
    class Offset(nn.Module):
        def forward(self, logits, ids):
            return torch.nn.functional.cross_entropy(logits, ids, reduction="none") + float("inf")

    network, loader, stage = made()
    with pytest.raises(DivaugError, match="the gradient or the loss is not finite"):
        train(network, loader, replace(stage, criterion=Offset()), Totals.empty(3, 7))

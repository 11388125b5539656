"""``watch`` on anyone's network: the counts of a slow loop, nothing changed, ranks that merge."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import divaug
from divaug.base.errors import ConfigError
from divaug.base.labels import MixedLabels

K, C, D = 3, 4, 8


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, D), nn.ReLU(), nn.Linear(D, C))


def batches(count=6):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(5, 3, 2, 2, generator=generator), torch.randint(C, (5,), generator=generator)


def slow(values, labels):
    """Distinct features in top-K sets by class."""
    sets = [set() for _ in range(C)]
    for row, c in zip(values, labels, strict=True):
        sets[c] |= {d for d in sorted(range(D), key=lambda d: (-row[d], d))[:K] if row[d] > 0}
    return [float(len(s)) for s in sets]


def test_both_spaces_are_those_of_a_slow_loop_while_the_network_trains():
    model, ce, fe, seen = network(), [], [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with divaug.watch(model, layer="3", num_classes=C, k=K, sizes=(2,)) as monitor:
        for images, labels in batches():
            with torch.no_grad():
                z = model[:3](images)
                fe += z.tolist()
                ce += (z * model[3].weight[labels]).tolist()
                seen += labels.tolist()
            loss = nn.functional.cross_entropy(model(images), labels)
            monitor.step(labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = monitor.compute()
    assert found["ce"]["number"].tolist() == slow(ce, seen)
    assert found["fe"]["number"].tolist() == slow(fe, seen)
    assert found["ce"]["n"].tolist() == np.bincount(seen, minlength=C).tolist()
    assert set(found["fe"]) == {"n", "number", "effective", "magnitude", "rarefied_2"}
    monitor.reset()
    assert monitor.compute()["ce"]["n"].sum() == 0


def test_training_is_the_same_with_it_and_the_hook_goes():
    plain, watched = network(), network()
    for model in (plain, watched):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        with divaug.watch(watched, num_classes=C, layer="3", k=K) as monitor:
            for images, labels in batches():
                loss = nn.functional.cross_entropy(model(images), labels)
                if model is watched:
                    monitor.step(labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert not watched[3]._forward_pre_hooks


def test_mixed_labels_of_three_kinds_count_alike():
    model = network()
    images, labels = next(batches())
    share = torch.tensor([0.9, 0.3, 1.0, 0.5, 0.0])
    other = (labels + 1) % C
    mixed = MixedLabels(torch.stack([labels, other], 1), torch.stack([share, 1 - share], 1))
    soft = share[:, None] * nn.functional.one_hot(labels, C) + (1 - share)[:, None] * nn.functional.one_hot(other, C)
    found = []
    for target in (mixed, soft):
        with divaug.watch(model, "3", k=K) as monitor:
            model(images)
            monitor.step(target)
        found.append(monitor.compute()["ce"])
    assert found[0]["n_mixed"].sum() == 3 and found[0]["n"].sum() == 2
    # ties of 0.5 go to the first label of MixedLabels, to the lower class of a dense row
    tied = {int(labels[3]), int(other[3])}
    same = [c for c in range(C) if c not in tied]
    assert found[0]["n_mixed"][same].tolist() == found[1]["n_mixed"][same].tolist()
    assert found[0]["n"].tolist() == found[1]["n"].tolist()


def test_parts_merge_to_the_whole():
    model = network()
    whole, *parts = (divaug.watch(model, "3", k=(K, 2)) for _ in range(3))
    for number, (images, labels) in enumerate(batches()):
        for monitor in (whole, parts[number % 2]):
            with monitor:
                model(images)
                monitor.step(labels)
    parts[0].merge(parts[1])
    parts[0].gather()  # no process group: nothing happens
    for space, statistics in whole.compute().items():
        for name, values in statistics.items():
            np.testing.assert_allclose(parts[0].compute()[space][name], values, rtol=1e-12)


def test_what_does_not_fit_is_said():
    model = network()
    images, labels = next(batches())
    with pytest.raises(ConfigError, match="no layer 'fc'; its linear layers: "):
        divaug.watch(model, layer="fc")
    with pytest.raises(ConfigError, match="2 linear layers; name the last one with layer="):
        divaug.watch(model)
    with pytest.raises(ValueError, match="the layer has 4 outputs, num_classes is 5"):
        divaug.watch(model, "3", num_classes=5)
    with pytest.raises(ValueError, match="top-k must lie in 1 to D = 8, got 9"):
        divaug.watch(model, "3", k=9)
    with divaug.watch(model, "3", k=K) as monitor:
        with pytest.raises(ValueError, match="no forward pass since the last step"):
            monitor.step(labels)
        model(images)
        with pytest.raises(ValueError, match=r"embeddings \(5, 8\) came to the layer, but there are 3 labels"):
            monitor.step(labels[:3])
        model(images)
        with pytest.raises(ValueError, match=r"labels must be \(B,\) integers or \(B, 4\) weights"):
            monitor.step(torch.rand(5, 3))
        for wrong, said in (
            (labels - 4, "labels must lie in 0 to 3, got -3 to -1"), (labels + 4, "labels must lie in 0 to 3, got 5 to 7"),
            (torch.eye(4)[[0, 1, 2, 3, 0]] + torch.eye(4)[1], "must be >= 0 and sum to 1"),
            (torch.tensor([[2.0, -1.0, 0.0, 0.0]] * 5), "must be >= 0 and sum to 1"),
        ):  # fmt: skip
            model(images)
            with pytest.raises(ValueError, match=said):
                monitor.step(wrong)
        assert monitor.compute()["ce"]["n"].sum() == 0  # nothing was counted of what was refused
        model(images)
        monitor.step(labels.tolist())
        assert monitor.compute()["ce"]["n"].sum() == 5
        with pytest.raises(RuntimeError, match="entered already"), monitor:
            pass
    single = nn.Sequential(nn.Flatten(), nn.Linear(12, C))
    assert divaug.watch(single, k=K).head is single[1]


def test_an_embedding_belongs_to_the_weights_that_it_met():
    """Lightning's on_train_batch_end, and other callbacks, come after the optimiser's step."""
    (images, labels), *_ = batches()
    found = []
    for late in (False, True):
        torch.manual_seed(0)
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
        with divaug.watch(model, "3", k=K) as monitor:
            loss = nn.functional.cross_entropy(model(images), labels)
            if not late:
                monitor.step(labels)
            loss.backward()
            optimizer.step()
            if late:
                monitor.step(labels)
        found.append(monitor.compute()["ce"]["magnitude"])
    np.testing.assert_array_equal(*found)


def test_label_smoothing_mixes_no_row_and_hides_no_mix():
    labels, others = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 1, 0, 2, 3])
    smooth = 0.1 / C + 0.9 * torch.eye(C)
    counts = []
    for soft in (smooth[labels], 0.7 * smooth[labels] + 0.3 * smooth[others], torch.eye(C)[labels]):
        model = network()
        with divaug.watch(model, "3", k=K) as monitor:
            model(torch.randn(5, 3, 2, 2))
            monitor.step(soft)
        counts.append([monitor.compute()["ce"].get(name, np.zeros(C)).tolist() for name in ("n", "n_mixed")])
    assert counts[0] == counts[2] == [[2, 1, 1, 1], [0, 0, 0, 0]]
    assert counts[1] == [[0, 1, 0, 0], [2, 0, 1, 1]]  # the second row is mixed with its own class


class Negated(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, C)

    def forward(self, images):
        return -self.fc(images.flatten(1))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(12, C), nn.ReLU(), nn.Unflatten(1, (C, 1, 1)), nn.Conv2d(C, C, 1),
                      nn.Flatten()),
        Negated(),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Unflatten(1, (8, 1)), nn.Conv1d(8, 3, 1), nn.Flatten()),
    ],
    ids=["hidden", "negated", "other width"],
)  # fmt: skip
def test_a_layer_that_is_not_the_last_is_refused_once_seen(model):
    torch.manual_seed(0)
    with divaug.watch(model, k=K), pytest.raises(ConfigError, match=r"is not that of the watched layer \(5, "):
        model(torch.randn(5, 3, 2, 2))


@pytest.mark.parametrize("after", [nn.Identity(), nn.LogSoftmax(1), nn.Softmax(1), nn.Sigmoid()])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_what_keeps_the_order_of_the_logits_may_follow_the_layer(after, kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, C), after)
    with (
        divaug.watch(model, k=K) as monitor,
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind != torch.float32),
    ):
        model(10 * torch.randn(5, 3, 2, 2))
        monitor.step(torch.arange(5) % C)
    assert monitor.compute()["ce"]["n"].sum() == 5


def test_a_pass_that_is_never_counted_is_warned_of_once():
    model = network()
    (images, labels), *_ = batches()
    with divaug.watch(model, "3", k=K) as monitor:
        model(images)
        with pytest.warns(UserWarning, match="the last one, which is lost"):
            model(images)
        model(images)  # said once
        monitor.step(labels)
        model.eval()
        model(images)  # an evaluation is not counted, and not warned of
        model(images)
        model.train()
        with torch.no_grad():
            model(images)
        monitor.step(labels)
    assert monitor.compute()["ce"]["n"].sum() == 10


def test_an_evaluation_is_no_batch_that_is_lost():
    """After it the warning is still to come for a batch that is."""
    model = network()
    (images, labels), *_ = batches()
    with divaug.watch(model, "3", k=K) as monitor:
        for _ in range(2):
            model.train()
            model(images)
            monitor.step(labels)
            model.eval()
            model(images)
        model.train()
        model(images)
        with pytest.warns(UserWarning, match="the last one, which is lost"):
            model(images)


RANKS = """
import sys, torch, divaug
from torch import nn
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/store", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
generator = torch.Generator().manual_seed(1)
with divaug.watch(model, "3", k=3) as monitor:
    for number in range(4):
        images, labels = torch.randn(5, 3, 2, 2, generator=generator), torch.randint(4, (5,), generator=generator)
        if number % 2 == rank:
            model(images)
            monitor.step(labels)
monitor.gather()
print(monitor.compute()["ce"]["number"].tolist(), monitor.compute()["ce"]["n"].sum())
"""


def test_ranks_gather_what_all_have_counted(tmp_path):
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, str(tmp_path / "ranks.py")]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    told = [process.communicate(timeout=120)[0] for process in processes]
    assert told[0] == told[1] and told[0].strip().endswith("20.0") and Path(tmp_path).exists()
    model = network()
    with divaug.watch(model, "3", k=3) as monitor:
        for images, labels in batches(4):
            model(images)
            monitor.step(labels)
    assert told[0].startswith(str(monitor.compute()["ce"]["number"].tolist()))

import pytest
import torch
from torch import nn

import divaug
from divaug.models import build_network
from divaug.train import threads
from divaug.train.threads import multiply_adds, one_thread, threads_for


def test_multiply_adds_are_those_of_the_literature():
    assert multiply_adds(build_network("resnet32", 10, seed=0), (3, 32, 32)) == 68_862_592  # 69 M
    grouped = nn.Conv2d(4, 8, 3, groups=2, padding=1)
    assert multiply_adds(grouped, (4, 5, 5)) == 5 * 5 * 8 * 2 * 9


def test_counting_leaves_the_network_as_it_was(global_rngs_untouched):
    network = build_network("whitened_cnn", 10, seed=0)
    network.backbone.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    multiply_adds(network, (3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training and not network.backbone.training
    assert not any(module._forward_hooks for module in network.modules())


def test_small_steps_get_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    network = build_network("whitened_cnn", 10, seed=0)
    each = multiply_adds(network, (3, 32, 32))
    enough = -(-threads.ENOUGH // each)
    assert threads_for(network, (3, 32, 32), enough) == 6
    assert threads_for(network, (3, 32, 32), enough - 1) == 1


@pytest.mark.parametrize(("asked", "used"), [(0, 1), (3, 3)])
def test_a_run_has_its_threads_and_gives_them_back(asked, used, monkeypatch):
    seen, now = [], [5]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: (seen.append(n), now.__setitem__(0, n)))
    config = divaug.configure(
        dataset="digits", epochs=1, max_per_class=30, imbalance_factor=2.0, tracking="off", progress="none",
        threads=asked, monitor=False, **{"model.widths": [4]},
    )  # fmt: skip
    run = divaug.run(config)
    assert seen == [used, 5]
    assert run._json("environment.json")["threads"] == used


def test_threads_come_back_after_an_error(monkeypatch):
    before = torch.get_num_threads()
    config = divaug.configure(
        dataset="digits", epochs=1, tracking="off", progress="none", threads=before + 1, top_k=9999,
    )  # fmt: skip
    with pytest.raises(divaug.base.errors.ConfigError, match="top-k must lie in"):
        divaug.run(config)
    assert torch.get_num_threads() == before


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)

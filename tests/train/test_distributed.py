"""One run over several processes: the same draws and counts, the same gradients; one lost process stops all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import divaug
from divaug.base.errors import ConfigError, DivaugError
from divaug.base.labels import MixedLabels, mixed_loss
from divaug.config.jobs import processes
from divaug.losses import CrossEntropy
from divaug.train.checkpoint import read_checkpoint
from divaug.train.distributed import ALONE, Ranks, check, check_learning

PLAIN = '''
import torch
from torch import nn
from divaug import MODELS


@MODELS.register("plain")
class Plain(nn.Module):
    """A network without normalisation, whose gradients add up over parts of a batch."""

    def __init__(self, channels, size, *, width: int = 16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.feature_dim = 4 * width

    def forward(self, images):
        return self.layers(images)
'''
ARGUMENTS = [
    "--import", "plain.py", "--model", "plain", "--epochs", "3", "--precision", "fp32", "--tracking", "off", "--lr", "0.05",
    "--imbalance-factor", "5", "--max-per-class", "40", "--batch-size", "24", "--top-k", "4", "--progress", "lines",
]  # fmt: skip
METHODS = ["--methods", "cmo,ldam_drw"]  # donors, mixed labels; class weights from a phase on


def torchrun(processes, *arguments):
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "divaug.recipes.digits_lt", *ARGUMENTS, *arguments,
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_row_is_of_one_process(size):
    for count in (0, 5, 8, 128):
        rows = [np.arange(count)[Ranks(rank, size).rows(count)] for rank in range(size)]
        assert np.concatenate(rows).tolist() == list(range(count))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_losses_of_parts_add_up_to_the_batchs():
    torch.manual_seed(0)
    logits, weights = torch.randn(11, 4, dtype=torch.float64), torch.tensor([0.2, 1.0, 3.0, 0.5])
    share = torch.rand(11)
    target = MixedLabels(torch.randint(0, 4, (11, 2)), torch.stack([share, 1 - share], 1), torch.rand(11) < 0.5)
    parts = [Ranks(rank, 3).rows(11) for rank in range(3)]
    norm = (target.weights * weights[target.ids]).sum()
    losses = [
        mixed_loss(CrossEntropy(), logits[part], target.take(part), weights, whole=lambda own: norm) for part in parts
    ]
    torch.testing.assert_close(sum(losses), mixed_loss(CrossEntropy(), logits, target, weights))
    joined = [target.take(part).is_mixed() for part in parts]
    assert torch.equal(torch.cat(joined), target.is_mixed())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"feature": "isda"}, "feature isda"),
        ({"pixel": "cuda"}, "pixel cuda, which learns"),
        ({"loader": "streaming"}, "the streaming loader"),
        ({"batch_size": 16}, "a batch of 16 rows: at least 8 for each"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(keys, said):
    config = divaug.configure(dataset="digits", **keys)
    check(config, ALONE)
    with pytest.raises(ConfigError, match=f"over 3 processes does not support {said}"):
        check(config, Ranks(1, 3))


def test_pixel_components_that_learn_are_refused_under_any_name():
    class Mine:
        learns = True

    class Plain:
        learns = False

    check_learning([Plain()], Ranks(1, 3))
    check_learning([Mine()], ALONE)
    with pytest.raises(ConfigError, match="over 3 processes does not support pixel Mine, which learns"):
        check_learning([Plain(), Mine()], Ranks(1, 3))


def test_a_run_over_processes_with_what_learns_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    """Each of the processes, the first and those beside it."""

    class Several(Ranks):
        def any(self, here):
            return here

        def wait(self):
            pass

    from divaug.runs import loop

    (tmp_path / "learning.py").write_text(
        "from divaug import PIXEL\nfrom divaug.pixel.cuda import Cuda\n"
        "@PIXEL.register('mine')\ndef mine(labels, num_classes):\n    return Cuda(labels, num_classes, weak=PIXEL.build('none', facts={}))\n"
    )
    config = divaug.configure(
        dataset="digits", pixel="mine", imports=[str(tmp_path / "learning.py")], tracking="off", progress="none",
        output_dir=str(tmp_path / "runs"),
    )  # fmt: skip
    for rank in (0, 1):
        monkeypatch.setattr(loop, "join", lambda device, rank=rank: Several(rank, 2))
        monkeypatch.setattr("divaug.train.build.processes", lambda: 2)
        with pytest.raises(ConfigError, match="over 2 processes does not support pixel Cuda, which learns"):
            divaug.run(config)
    assert not list((tmp_path / "runs").rglob("config.toml"))


def test_cards_are_only_touched_where_they_are_asked_for_and_there_are_enough(monkeypatch):
    from divaug.train import distributed

    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "x", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    joined, chosen = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda backend, timeout: joined.append(backend))
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    for cards, device, backend in (
        (1, "cpu", "gloo"),
        (2, "auto", "cpu:gloo,cuda:nccl"),
        (2, "cuda", "cpu:gloo,cuda:nccl"),
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda cards=cards: cards)
        assert distributed.join(device).rank == 1 and joined[-1] == backend
    assert chosen == [1, 1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DivaugError, match="process 1 on this machine has no card of its own, of 1: start as many"):
        distributed.join("auto")


def test_other_recipes_and_jobs_are_refused_under_torchrun(monkeypatch, capsys):
    from divaug.recipes import digits_lt, fragility

    monkeypatch.setenv("WORLD_SIZE", "2")  # alone, it is some batch system's
    assert processes() == 1
    for variable in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert processes() == 2
    assert digits_lt.main(["--jobs", "2"]) == 2
    assert "torchrun starts one run over several processes" in capsys.readouterr().err
    assert fragility.main(["--dataset", "digits"]) == 2
    assert "fragility does not run under torchrun" in capsys.readouterr().err


def runs_in(folder):
    return sorted(path.parent for path in Path(folder).glob("*/*/seed0/result.json"))


def same_but_for_rounding(one, two):
    """Draws, counts and labels are equal; what is computed from weights is equal within rounding."""
    a, b = ([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two))
    assert len(a) == len(b) == 3
    for row, other in zip(a, b, strict=True):
        assert row["per_class"].keys() == other["per_class"].keys()
        for name in row["per_class"]:
            exact = name.startswith("aug/") or name in ("views/n", "views/n_mixed")
            mine, theirs = (np.array(each[name], dtype=float) for each in (row["per_class"], other["per_class"]))
            np.testing.assert_allclose(theirs, mine, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-3, err_msg=name)
        assert other["metrics"]["train/loss"] == pytest.approx(row["metrics"]["train/loss"], rel=1e-4)
    first, second = (read_checkpoint(run / "checkpoints" / "last.pt")["model"] for run in (one, two))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_as_one(processes, tmp_path):
    from divaug.recipes import digits_lt

    Path("plain.py").write_text(PLAIN)
    assert digits_lt.main([*ARGUMENTS, *METHODS, "--output-dir", "alone", "--threads", "1"]) == 0
    done = subprocess.run(
        torchrun(processes, *METHODS, "--output-dir", "together", "--results", "rows.csv"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    alone, together = runs_in("alone"), runs_in("together")
    assert len(alone) == len(together) == 2 and done.stdout.count("balanced") == 1  # one table
    for one, two in zip(alone, together, strict=True):
        same_but_for_rounding(one, two)
        assert read_checkpoint(two / "checkpoints" / "last.pt")["processes"] == processes
    assert len(Path("rows.csv").read_text().splitlines()) == 3
    if processes == 2:
        return
    again = subprocess.run(
        torchrun(processes, *METHODS, "--output-dir", "together"), capture_output=True, text=True, check=False
    )  # finished runs are known by all
    assert again.returncode == 0 and again.stderr.count("is finished already") == 2


@pytest.mark.slow
def test_a_lost_process_stops_all_and_another_number_resumes(tmp_path):
    Path("plain.py").write_text(PLAIN)
    command = torchrun(2, "--method", "erm", "--epochs", "4000", "--output-dir", "together", "--eval-every", "4000")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not list(Path("together").glob("*/*/seed0/checkpoints/last.pt")):
            time.sleep(0.05)
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(listed.stdout.splitlines()[-1].split()[0]), signal.SIGKILL)
        assert process.wait(60) != 0
    (folder,) = Path("together").glob("*/*/seed0")
    before = len((folder / "metrics.jsonl").read_text().splitlines())
    assert before >= 1 and not (folder / "result.json").exists()
    command = torchrun(3, "--method", "erm", "--epochs", "4000", "--output-dir", "together", "--eval-every", "4000")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while len((folder / "metrics.jsonl").read_text().splitlines()) <= before:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert "resuming at epoch" in said and "2 processes, now 3" in said

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import divaug
from divaug.base.errors import ConfigError
from divaug.base.stats import wilson_interval
from divaug.config import layers
from divaug.data.image_files import decode
from divaug.data.load import load_data
from divaug.recipes import compare, digits_lt, folder_lt
from divaug.runs.folder import RunFolder, find_runs
from divaug.runs.measure import costs
from divaug.train.build import build
from divaug.train.step import GradientCheck


def run(*argv):
    return digits_lt.main([str(a) for a in argv])


def test_every_method_trains(tiny, capsys, monkeypatch):
    monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})  # 52 figures take longer than all training
    names = set(layers.names("methods")) - {"diverse", "redundant"}  # these need an encoder: test_encoder.py
    assert run(*tiny, "--methods", ",".join(sorted(names)), "--epochs", 2) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.split() and " against " not in line]
    table = [line for line in lines if line.split()[0] in layers.names("methods")]
    compared = pd.read_csv("runs/tiny/report/contrasts.csv")
    assert compared["method"].nunique() == 35 and set(compared["verdict"]) == {"these runs cannot tell"}  # of one seed
    assert (
        "no verdict: too few pairs, no spread, or networks that predict one class. Intervals are in the report." in out
    )
    assert len(table) == 36 and "prior-corr." in out and "top-K tail m=" in out
    for figure in ("recall_by_class", "growth", "accuracy_diversity"):
        assert Path(f"runs/tiny/report/{figure}.png").stat().st_size > 5000


def test_a_run_folder_is_complete(tiny):
    assert run(*tiny, "--method", "cmo", "--val-frac", 0.2) == 0
    folder = RunFolder("runs/tiny/cmo/seed0")
    assert folder.finished and find_runs(["runs"])[0].path == folder.path
    assert folder.config.method == "cmo" and folder.config.precision in ("bf16", "fp32")
    manifest = folder.manifest
    assert (
        manifest["counts"] == [a - b for a, b in zip(manifest["cut_counts"], manifest["val_counts"], strict=True)]
        and sum(manifest["test_counts"]) == 896
    )
    environment = json.loads((folder.path / "environment.json").read_text())
    assert {"commit", "torch", "divaug", "command"} <= set(environment)
    rows = folder.metrics.rows()
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    metrics = rows[0]["metrics"]
    for key in (
        "train/loss", "test/bal_acc", "test/acc_tail", "val/bal_acc", "views/number_head", "views/growth_tail",
        "train_clean/rarefied_5_head", "test_clean/magnitude_mid", "aug/mass_tail_frac",
    ):  # fmt: skip
        assert key in metrics, key
    assert "train_clean/number_head" not in rows[1]["metrics"]  # first, middle and last epoch only
    assert "train_clean/number_head" in rows[2]["metrics"] and "train_clean/number_head" in rows[3]["metrics"]
    result = folder.result
    assert result["final/test_bal_acc"] == rows[-1]["metrics"]["test/bal_acc"]
    assert result["best_on_test/bal_acc"] == max(row["metrics"]["test/bal_acc"] for row in rows)
    table = pd.read_parquet(folder.path / "per_class.parquet")
    assert len(table) == 40 and set(table["group"]) == {"head", "mid", "tail"}
    assert table["test/recall"].tolist()[-10:] == pytest.approx(rows[-1]["per_class"]["test/recall"])
    assert {p.name for p in folder.figures.iterdir()} == {"confusion.png", "growth.png", "recall.png", "taken_for.png"}
    # rows that the loop saw are the sampler's draws, and mixing moved label mass without creating any
    assert sum(rows[0]["per_class"]["aug/rows"]) == sum(manifest["counts"])
    assert sum(rows[0]["per_class"]["aug/label_mass"]) == pytest.approx(sum(manifest["counts"]))


@pytest.mark.usefixtures("no_figures")
def test_the_trained_network_comes_back(tiny):
    assert run(*tiny, "--method", "ldam_drw") == 0
    folder = divaug.open_run("runs/tiny/ldam_drw/seed0")
    model = divaug.load("runs/tiny/ldam_drw/seed0").network
    assert not model.training
    outputs = np.load(folder.path / "test_outputs.npz")
    from divaug.data.datasets.digits import digits
    from divaug.data.images import Request

    dataset, manifest = digits(Request()), folder.manifest
    images = torch.from_numpy(dataset.test.images).permute(0, 3, 1, 2).float() / 255
    images = (images - manifest["mean"][0]) / manifest["std"][0]
    with torch.no_grad():
        z = model.features(images)
        logits = model(images)
    assert (z >= 0).all() and z.shape == (896, 8)
    tolerance = 0.5 if folder.config.precision == "bf16" else 1e-3
    np.testing.assert_allclose(logits.numpy(), outputs["logits"], atol=tolerance)


@pytest.mark.usefixtures("no_figures")
def test_the_same_command_again_does_nothing_and_another_configuration_is_refused(tiny, capsys):
    assert run(*tiny, "--method", "erm") == 0
    before = (Path("runs/tiny/erm/seed0/metrics.jsonl")).read_bytes()
    assert run(*tiny, "--method", "erm") == 0
    assert Path("runs/tiny/erm/seed0/metrics.jsonl").read_bytes() == before
    assert run(*tiny, "--method", "erm", "--lr", 0.01) == 2
    assert "holds a run with lr = 0.05, but this one has 0.01" in capsys.readouterr().err
    assert Path("runs/tiny/erm/seed0/metrics.jsonl").read_bytes() == before
    config = "runs/tiny/erm/seed0/config.toml"
    assert digits_lt.main(["--config", config]) == 0  # the dump comes back to its own folder
    assert Path("runs/tiny/erm/seed0/metrics.jsonl").read_bytes() == before


@pytest.mark.usefixtures("no_figures")
def test_the_monitor_changes_nothing_of_training(tiny, untimed):
    assert run(*tiny, "--method", "cutmix") == 0
    assert run(*tiny, "--method", "cutmix", "--no-monitor", "--experiment", "blind") == 0
    seen, blind = (
        torch.load(f"runs/{e}/cutmix/seed0/checkpoints/last.pt", weights_only=True)["model"] for e in ("tiny", "blind")
    )
    assert all(torch.equal(seen[key], blind[key]) for key in seen)
    assert not any(key.startswith("views/") for key in untimed(Path("runs/blind/cutmix/seed0"))[-1]["metrics"])


@pytest.mark.usefixtures("no_figures")
def test_streaming_trains_as_resident_does(tiny, untimed):
    assert run(*tiny, "--method", "cmo") == 0
    assert run(*tiny, "--method", "cmo", "--experiment", "streamed", "--loader", "streaming", "--workers", 1) == 0
    assert untimed(Path("runs/tiny/cmo/seed0")) == untimed(Path("runs/streamed/cmo/seed0"))


def command(tiny, *argv):
    return [sys.executable, "-m", "divaug.recipes.digits_lt", *tiny, *[str(a) for a in argv]]


def wait_for(path, lines, process):
    for _ in range(1200):
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not reach {lines} lines")


# Phases, donors and a resampler, so that every stream is in use; enough epochs to be hit in the middle.
LONG = ["--method", "cmo", "--sampler", "oversample", "--epochs", 14, "--eval-every", 5]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_arguments):
    folder = tmp_path_factory.mktemp("whole")
    assert run(*tiny_arguments, *LONG, "--output-dir", folder) == 0
    return folder / "tiny" / "cmo+sampler=oversample" / "seed0"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_goes_on_bit_exactly_after_a_signal(tiny, untimed, uninterrupted, number, code):
    argv, whole, cut = LONG, uninterrupted, Path("cut/tiny/cmo+sampler=oversample/seed0")
    process = subprocess.Popen(
        command(tiny, *argv, "--output-dir", "cut"), stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    wait_for(cut / "metrics.jsonl", 3, process)
    process.send_signal(number)
    assert process.wait(120) == code, process.stderr.read()
    if number != signal.SIGKILL:
        assert "the same command resumes it" in process.stderr.read()
    process.stderr.close()
    assert not (cut / "result.json").exists()
    assert run(*tiny, *argv, "--output-dir", "cut") == 0
    assert untimed(cut) == untimed(whole)
    a, b = (torch.load(f / "checkpoints" / "last.pt", weights_only=True) for f in (whole, cut))
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    timed = ("second", "img_per")
    first, second = (
        {k: v for k, v in RunFolder(f).result.items() if not any(t in k for t in timed)} for f in (whole, cut)
    )
    assert first == second


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_epoch_is_resumed_in_its_middle(tiny, untimed, monkeypatch, number, code):
    from divaug.base.signals import StopRequest

    argv = [*tiny, "--method", "remix", "--batch-size", 8]
    assert run(*argv, "--output-dir", "whole") == 0
    asked = iter(range(10_000))

    def stop(self):  # as if a signal came during the 31st step
        if next(asked) == 30:
            os.kill(os.getpid(), number)  # the handler that the context installed takes it
        return self.signal_number is not None

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", stop)
        assert run(*argv, "--output-dir", "cut") == code
    state = torch.load("cut/tiny/remix/seed0/checkpoints/last.pt", weights_only=True)
    assert state["totals"] is not None and state["totals"]["steps"] > 0
    broken = state["epoch"], state["totals"]["seconds"]
    assert run(*argv, "--output-dir", "cut") == 0
    assert untimed(Path("cut/tiny/remix/seed0")) == untimed(Path("whole/tiny/remix/seed0"))
    row = RunFolder("cut/tiny/remix/seed0").metrics.rows()[broken[0]]
    assert row["metrics"]["train/seconds"] > broken[1] > 0  # the part before the stop counts


@pytest.mark.usefixtures("no_figures")
def test_resume_with_a_path_and_resume_never(tiny, monkeypatch, capsys):
    from divaug.base.signals import StopRequest

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal_number", 15) or True)
        assert run(*tiny, "--method", "erm") == 143
    assert run(*tiny, "--method", "erm", "--resume", "never") == 2
    assert "unfinished run, but resume is never" in capsys.readouterr().err
    moved = Path("elsewhere/exp/erm/seed0")
    moved.parent.mkdir(parents=True)
    Path("runs/tiny/erm/seed0").rename(moved)
    assert run("--resume", moved, "--results", "rows.csv") == 2  # the folder does not know what was asked for
    assert "--results has no effect with --resume RUN" in capsys.readouterr().err
    assert run("--resume", moved, "--tracking", "off") == 0
    assert RunFolder(moved).finished


def test_default_methods_that_change_images_are_said_to_be_left_out(monkeypatch, capsys):
    from divaug.config.flags import Request
    from divaug.recipes import _compare_methods

    monkeypatch.setattr("divaug.study.methods.train_methods", lambda *a, **k: None)
    for quiet in (False, True):
        request = Request([], False, False, quiet, None, False, {"results": None}, ["cutmix", "cmo"])
        _compare_methods._train(request, [], slice(None), 1)
        said = capsys.readouterr().err
        assert ("cutmix is left out: it changes images" in said and "cmo is left out" in said) != quiet


def test_a_second_process_is_told_who_has_the_folder(tiny, capsys):
    folder = RunFolder("runs/tiny/erm/seed0")
    with folder.lock():
        assert run(*tiny, "--method", "erm") == 1
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figures")
def test_damaged_checkpoints_and_changed_data_are_named(tiny, capsys, monkeypatch):
    assert run(*tiny, "--method", "erm") == 0
    folder = Path("runs/tiny/erm/seed0")
    (folder / "result.json").unlink()
    (folder / "checkpoints" / "last.pt").write_bytes(b"half")
    assert run(*tiny, "--method", "erm") == 1
    assert "last.pt cannot be read" in capsys.readouterr().err
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "train_sha256": "other"}))
    assert run(*tiny, "--method", "erm") == 3
    assert "holds a run with other data: training images differ" in capsys.readouterr().err


def test_a_gradient_that_is_not_finite_stops_with_what_is_needed(tiny, capsys):
    assert run(*tiny, "--method", "erm", "--lr", 1e30, "--warmup-frac", 0) == 1
    error = capsys.readouterr().err
    assert "the gradient or the loss is not finite" in error and "learning rate " in error and "labels [" in error
    assert "step" in error and not Path("runs/tiny/erm/seed0/result.json").exists()


STEEP = """
import torch
from divaug.config.registry import LOSSES

@LOSSES.register("steep", tune={"slope": (2.0, 9.0)})
class Steep(torch.nn.Module):
    \"\"\"Grows without bounds after the first step, if its slope is above 2.\"\"\"

    def __init__(self, *, slope: float = 2.0) -> None:
        super().__init__()
        self.slope, self.steps = slope, 0

    def forward(self, logits, ids):
        self.steps += 1
        loss = torch.nn.functional.cross_entropy(logits, ids, reduction="none")
        return loss * float("inf") if self.slope > 2 and self.steps > 1 else loss
"""


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_diverges_costs_neither_the_others_nor_the_table(tiny, capsys, jobs):
    Path("steep.py").write_text(STEEP)
    Path("wild.toml").write_text('[loss]\nname = "steep"\nslope = 3.0\n')
    flags = [*tiny, "--epochs", 1, "--import", "steep.py", "--methods", "erm,wild.toml,ros", "--results", "rows.csv"]
    assert run(*flags, "--jobs", jobs) == 1
    out, error = capsys.readouterr()
    assert "1 of 3 runs diverged, all others are done. tiny: wild-" in error and "lower --lr" in error
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("erm ", "ros ", "wild"))] == ["erm", "ros"]
    (wild,) = (folder.label for folder in find_runs(["runs"]) if not folder.finished)
    said = f"Not finished, and left out: {wild}, seed 0."
    assert said in out
    if jobs == 1:
        assert run(*flags, "--quiet") == 1 and "lower --lr" in capsys.readouterr().err
        assert compare.main(["runs"]) == 0 and said in capsys.readouterr().out
        Path(f"runs/tiny/{wild}/seed0/manifest.json").write_text("{}")  # damaged: no reason to fail
        assert compare.main(["runs"]) == 0 and "Not finished" not in capsys.readouterr().out
    assert sorted(pd.read_csv("rows.csv")["method"]) == ["erm", "ros"]


@pytest.mark.usefixtures("no_figures")
def test_a_signal_beside_a_divergence_stops_the_list(tiny, capsys, monkeypatch):
    """On a GPU a bad step is seen at the end of the epoch, which the signal ended."""
    settle, begin = GradientCheck.settle, GradientCheck.__init__

    def interrupted(check):
        os.kill(os.getpid(), signal.SIGINT)
        settle(check)

    monkeypatch.setattr(GradientCheck, "__init__", lambda check, device: begin(check, device, at_once=False))
    monkeypatch.setattr(GradientCheck, "settle", interrupted)
    Path("steep.py").write_text(STEEP)
    Path("wild.toml").write_text('[loss]\nname = "steep"\nslope = 3.0\n')
    assert run(*tiny, "--epochs", 1, "--import", "steep.py", "--methods", "wild.toml,ros") == 130
    error = capsys.readouterr().err
    assert "the gradient or the loss is not finite" in error and not Path("runs/tiny/ros").exists()


@pytest.mark.usefixtures("no_figures")
def test_tuning_goes_on_after_configurations_that_diverge(tiny, capsys):
    Path("steep.py").write_text(STEEP)
    Path("mine.toml").write_text('[loss]\nname = "steep"\n')
    flags = [*tiny, "--epochs", 1, "--import", "steep.py", "--methods", "erm,mine.toml", "--tune", 3]
    assert run(*flags) == 0, capsys.readouterr().err
    table = pd.read_csv("runs/tiny/tuning.csv")
    assert table["val_bal_acc"].isna().tolist() == [False, False, True, True]
    assert table["chosen"].tolist() == [True, True, False, False]
    assert "Tuned alike: 3 configurations of every method" in capsys.readouterr().out


def test_top_k_larger_than_d_and_a_missing_device(tiny, capsys):
    assert run(*tiny, "--method", "erm", "--top-k", 9) == 2
    assert "top-k must lie in 1 to D = 8, got 9" in capsys.readouterr().err
    assert not Path("runs/tiny/erm/seed0/config.toml").exists()
    assert run(*tiny, "--method", "erm", "--device", "cuda:77") == 2
    assert "device 'cuda:77' cannot be used" in capsys.readouterr().err
    assert run(*tiny, "--method", "erm", "--device", "meta") == 2  # torch has it; nothing of a run works on it
    assert "device 'meta' is not supported; use auto, cpu, cuda or cuda:N" in capsys.readouterr().err


def test_a_loop_that_loses_rows_is_caught(tiny, capsys, monkeypatch):
    from divaug.data.loaders import Loader

    whole = Loader.epoch

    def short(self, *args, **kwargs):
        batches = list(whole(self, *args, **kwargs))
        return iter([*batches[:-1], batches[0]])

    monkeypatch.setattr(Loader, "epoch", short)
    assert run(*tiny, "--method", "erm") == 1
    assert "the loop saw labels" in capsys.readouterr().err


def test_folder_lt_on_a_folder_and_on_a_csv(tiny, pictures, capsys):
    options = [a for a in tiny if a not in ("--dataset", "digits", "--imbalance-factor", "5", "--max-per-class", "46")]
    options[options.index("[8]")] = "[8,8]"
    assert folder_lt.main([str(pictures / "cells.csv"), *options, "--method", "erm", "--image-size", "16"]) == 0
    out = capsys.readouterr().out
    assert "erm, 1 seed:" in out and "class " in out and "bright" in out and "recall %" in out
    assert folder_lt.main([str(pictures), *options, "--method", "ros", "--image-size", "12", "--smoke"]) == 0
    assert RunFolder("runs/tiny/ros/seed0").manifest["image_shape"] == [12, 12, 3]
    (pictures / "dark" / "3.png").write_bytes(b"no image")
    assert folder_lt.main([str(pictures), *options, "--method", "rus", "--image-size", "12"]) == 3
    assert "1 of 33 files cannot be read as images" in capsys.readouterr().err


def test_the_table_of_classes_is_of_all_seeds(tiny):
    from divaug.report.class_table import class_table

    assert run(*tiny, "--method", "erm", "--seeds", "0,1", "--vary", "init") == 0
    folders = find_runs(["runs"])
    rows = {line.split()[0]: line.split() for line in class_table(folders).split("\n")[1:]}
    recalls = [folder.metrics.rows()[-1]["per_class"]["test/recall"] for folder in folders]
    assert len(folders) == 2 and recalls[0] != recalls[1]
    manifest = folders[0].manifest
    for c, name in enumerate(manifest["class_names"]):
        share, tested = (recalls[0][c] + recalls[1][c]) / 2, manifest["test_counts"][c]
        low, high = (f"{100 * end:.1f}" for end in wilson_interval(share, tested))
        assert rows[name][1:] == [str(manifest["counts"][c]), str(tested), f"{100 * share:.1f}", low, "to", high]


def test_timm_brings_its_own_size_and_normalisation(tiny, pictures):
    import timm

    from divaug.data.load import load_data

    config = layers.resolve(flags={"dataset": "image_folder", "path": str(pictures), "model": "timm:resnet18"})
    data = load_data(config)
    expected = timm.get_pretrained_cfg("resnet18")
    assert data.train.images.shape[1:] == (224, 224, 3) and data.dataset.mean == tuple(expected.mean)
    with pytest.raises(ConfigError, match="timm has no model 'resnet18x'"):
        load_data(layers.resolve(flags={"dataset": "image_folder", "path": str(pictures), "model": "timm:resnet18x"}))


@pytest.mark.usefixtures("no_figures")
def test_two_presets_are_never_in_one_table(tiny):
    from divaug.report.compare import compare

    assert run(*tiny, "--method", "erm") == 0
    assert run(*tiny, "--method", "erm", "--epochs", 2, "--experiment", "short") == 0
    comparisons = compare(find_runs(["runs"]))
    assert len(comparisons) == 2 and all(list(c.runs) == ["erm"] for c in comparisons)


@pytest.mark.usefixtures("no_figures")
def test_import_is_kept_for_resuming(tiny, tmp_path):
    (tmp_path / "my_augs.py").write_text(
        "from divaug.base.labels import MixedLabels\nfrom divaug.config.registry import MIX, PIXEL\n\n"
        '@MIX.register("mine")\nclass Mine:\n    """Darken."""\n'
        "    def sample(self, labels, size, rng):\n        return rng.random()\n"
        "    def apply(self, images, labels, plan, donors=None):\n"
        "        return images * plan, MixedLabels.hard(labels)\n\n"
        '@PIXEL.register("invert")\nclass Invert:\n    """Invert."""\n'
        "    def sample(self, labels, size, rng):\n        return rng.random(len(labels)) < 0.5\n"
        "    def apply_one(self, image, plan, i):\n        return 255 - image if plan[i] else image\n"
    )
    flags = ["--import", "my_augs.py", "--mix", "mine", "--pixel", "invert", "--loader", "streaming", "--workers", 1]
    assert run(*tiny, *flags, "--epochs", 1) == 0
    folder = Path("runs/tiny/erm+pixel=invert+mix=mine/seed0")
    assert RunFolder(folder).config.imports == (str(tmp_path / "my_augs.py"),)
    (folder / "result.json").unlink()
    script = f"from divaug.recipes import digits_lt; raise SystemExit(digits_lt.main(['--resume', {str(folder)!r}]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_signal_in_the_last_epoch_stops_the_comparison(tiny, monkeypatch, capsys):
    from divaug.base.signals import StopRequest

    asked = iter(range(10_000))

    def stop(self):  # as if a signal came with the very last step
        if next(asked) >= 30:
            self.signal_number = signal.SIGTERM
        return self.signal_number is not None

    monkeypatch.setattr(StopRequest, "__call__", stop)
    assert run(*tiny, "--methods", "erm,ros", "--epochs", 2, "--batch-size", 16) == 143
    assert "was finished" in capsys.readouterr().err
    assert RunFolder("runs/tiny/erm/seed0").finished and not Path("runs/tiny/ros/seed0/config.toml").exists()


def test_a_class_in_one_group_stays_in_training(pictures):
    from divaug.data.load import load_data

    lines = (pictures / "cells.csv").read_text().splitlines()
    alone = [line.replace(line.split(",")[2], "lonely") if ",dark," in line else line for line in lines[1:]]
    (pictures / "more.csv").write_text("\n".join([lines[0] + ",split", *[f"{line},train" for line in alone]]) + "\n")
    body = (pictures / "more.csv").read_text().splitlines()
    body[1], body[-1] = body[1].replace(",train", ",test").replace("slide0", "apart"), body[-1]
    (pictures / "more.csv").write_text("\n".join(body) + "\n")
    config = layers.resolve(
        flags={"dataset": "csv", "path": str(pictures / "more.csv"), "image_size": 8, "val_frac": 0.3}
    )
    data = load_data(config)
    assert (data.counts > 0).all() and not set(data.train.groups) & set(data.val.groups)
    assert any("no validation image" in note for note in data.notes)


def test_a_sampler_must_draw_an_epoch(tiny, capsys, monkeypatch):
    from divaug.samplers.uniform import Uniform

    monkeypatch.setattr(Uniform, "draw", lambda self, rng, progress: torch.arange(5))
    assert run(*tiny, "--method", "erm") == 1
    assert "drew 5 images instead of" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figures")
def test_any_data_set_is_resized(tiny):
    assert run(*tiny, "--method", "erm", "--image-size", 12, "--epochs", 1) == 0
    assert RunFolder("runs/tiny/erm/seed0").manifest["image_shape"] == [12, 12, 1]


def of_classes(folder, name, epoch=-1):
    return np.array(RunFolder(folder).metrics.rows()[epoch]["per_class"][f"aug/{name}"], dtype=float)


@pytest.mark.usefixtures("no_figures")
def test_what_was_applied_is_counted(tiny):
    """Rates within 4.5 standard deviations of the binomial, over two epochs; sums exact."""
    flags = [
        "--sampler",
        "uniform",
        "--pixel",
        "cutout",
        "--pixel.prob",
        0.3,
        "--mix",
        "cmo",
        "--mix.per_row",
        "true",
    ]
    assert run(*tiny, *flags, "--mix.prob", 0.4, "--max-per-class", 80, "--epochs", 2) == 0
    (folder,) = find_runs(["runs"])
    counts = np.array(folder.manifest["counts"])
    total = {name: of_classes(folder.path, name, 0) + of_classes(folder.path, name, 1) for name in (
        "rows", "augmented", "receivers", "givers", "label_mass")}  # fmt: skip
    n = 2 * counts.sum()
    assert total["rows"].sum() == n and total["label_mass"].sum() == pytest.approx(n)
    bound = lambda p, rows: 4.5 * np.sqrt(p * (1 - p) * rows)  # noqa: E731
    assert abs(total["augmented"].sum() - 0.3 * n) < bound(0.3, n) + 0.01 * n  # a square on black can change nothing
    mixed = total["receivers"].sum()
    assert 0.33 * n - bound(0.4, n) < mixed < 0.4 * n + bound(0.4, n)  # boxes of an 8x8 image are empty in 15 %
    assert total["givers"].sum() == mixed
    assert (abs(total["givers"] - mixed / 10) < bound(0.1, mixed)).all()  # every class alike, whatever its count
    assert (total["rows"] == 2 * counts).all()  # by count, so givers and receivers are told apart
    assert (of_classes(folder.path, "sources") == counts).all()  # drawn without replacement
    donors, effective = of_classes(folder.path, "donors"), of_classes(folder.path, "donors_effective")
    assert (donors <= counts).all() and (effective <= donors + 1e-9).all() and (effective > 0).all()
    metrics = folder.metrics.rows()[-1]["metrics"]
    assert metrics["aug/mixed_frac"] == pytest.approx(of_classes(folder.path, "receivers").sum() / counts.sum())
    assert metrics["aug/synthetic_frac"] == 0


@pytest.mark.usefixtures("no_figures")
def test_synthetic_rows_are_counted_where_they_go(tiny):
    assert run(*tiny, "--method", "feature_smote", "--epochs", 2) == 0
    folder = "runs/tiny/feature_smote/seed0"
    rows, mass, made = (of_classes(folder, name) for name in ("rows", "label_mass", "synthetic"))
    assert mass == pytest.approx(rows + made) and made[np.argmax(rows)] == 0
    # rate 0.5, rounded up or down at random a step: 3 steps of up to 128 rows
    assert made.sum() == pytest.approx(0.5 * rows.sum(), abs=3)
    assert made[-3:].sum() > made[:3].sum()


@pytest.mark.usefixtures("no_figures")
def test_a_mix_starts_and_stops_by_fractions_of_training(tiny):
    assert run(*tiny, "--mix", "mixup", "--mix.start", 0.25, "--mix.stop", 0.75) == 0
    (folder,) = find_runs(["runs"])
    mixed = [row["metrics"]["aug/mixed_frac"] for row in folder.metrics.rows()]
    assert mixed[0] == mixed[3] == 0 and min(mixed[1:3]) > 0.9


@pytest.mark.usefixtures("no_figures")
def test_learned_strengths_go_on_after_a_stop(tiny, untimed, monkeypatch):
    flags = ["--method", "cuda", "--pixel.threshold", 0.05]
    assert run(*tiny, *flags) == 0
    (folder,) = find_runs(["runs"])
    whole = untimed(folder.path)
    assert max(whole[-1]["per_class"]["aug/level"]) >= 2
    from divaug.train import checkpoint

    save, saved = checkpoint.save, []

    def stop_once(path, state, **kwargs):
        save(path, state, **kwargs)
        saved.append(path)
        if len(saved) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(checkpoint, "save", stop_once)
    assert run(*tiny, *flags, "--experiment", "stopped") == 130
    monkeypatch.setattr(checkpoint, "save", save)
    assert run(*tiny, *flags, "--experiment", "stopped") == 0
    assert untimed(Path("runs/stopped") / folder.path.relative_to(folder.path.parents[1])) == whole


@pytest.mark.usefixtures("no_figures")
def test_a_slow_augmentation_says_what_it_costs(tiny, capsys):
    quiet = [a if a != "none" else "lines" for a in tiny]
    assert run(*quiet, "--pixel", "default+trivialaugment", "--epochs", 1) == 0
    assert "works image by image: it makes" in capsys.readouterr().err
    assert run(*quiet, "--pixel", "default+cutout", "--epochs", 1) == 0
    assert "image by image" not in capsys.readouterr().err


def test_its_cost_counts_the_decoding_of_picture_files(pictures, monkeypatch):
    monkeypatch.setattr("divaug.data.datasets._own.RESIDENT_BYTES", 100)
    flags = {"dataset": "image_folder", "path": str(pictures), "test_frac": 0.3, "image_size": 12}
    config = layers.resolve(flags={**flags, "pixel": "trivialaugment"})
    built = build(config, load_data(config))

    def slow(path, size):
        time.sleep(0.02)
        return decode(path, size)

    monkeypatch.setattr("divaug.data.image_files.decode", slow)
    (note,) = costs(built)
    with_it, without = (float(x.replace(",", "")) for x in re.findall(r"([\d,]+) (?:images|with)", note))
    assert 0 < max(with_it, without) < len(built.train.labels) / 0.02  # both wait for decoding, if in threads


def test_partners_by_diversity_need_an_encoder_before_anything_is_trained(tiny, capsys):
    assert run(*tiny, "--methods", "erm,diverse") == 2
    assert "mix 'cutmix' compares images in the space of a common encoder: give --encoder" in capsys.readouterr().err
    assert not Path("runs/tiny/erm").exists()


@pytest.mark.usefixtures("no_figures")
def test_two_jobs_train_as_one(tiny, untimed, tmp_path, capsys):
    methods = ["--methods", "erm,cmo", "--epochs", 2]
    assert run(*tiny, *methods, "--threads", 1) == 0
    assert run(*tiny, *methods, "--experiment", "jobs", "--jobs", 2, "--results", "rows.csv") == 0
    for method in ("erm", "cmo"):
        one, two = (Path("runs") / name / method / "seed0" for name in ("tiny", "jobs"))
        assert untimed(one) == untimed(two)
        states = [torch.load(path / "checkpoints/last.pt", weights_only=True)["model"] for path in (one, two)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert sorted(pd.read_csv("rows.csv")["method"]) == ["cmo", "erm"]
    capsys.readouterr()
    assert run(*tiny, "--jobs", 0) == 2 and run(*tiny, "--jobs", 2, "--threads", 2) == 2
    assert (
        "--jobs must be auto or a whole number >= 1, got 0" in (said := capsys.readouterr().err)
        and "--threads 2 has no effect" in said
    )

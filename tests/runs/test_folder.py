"""What a run folder accepts when it is resumed, moved or read: nothing is lost quietly, nothing foreign is taken."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from divaug import configure, load, run
from divaug.base.errors import ConfigError, DivaugError, Interrupted
from divaug.base.signals import StopRequest
from divaug.config import user_files
from divaug.data.load import load_data
from divaug.recipes import digits_lt, folder_lt
from divaug.runs import loop
from divaug.runs.folder import RunFolder, find_runs
from divaug.runs.trackers.jsonl import JsonlLog

KEYS = {
    "dataset": "digits", "epochs": 3, "imbalance_factor": 5.0, "max_per_class": 24, "top_k": 4, "experiment": "tiny",
    "eval_every": 1, "progress": "none", "tracking": "off", "device": "cpu", "model.widths": [8],
}  # fmt: skip


def tiny(**more):
    return configure(**{**KEYS, **more})


@pytest.fixture
def images(tmp_path):
    """Two classes told apart by brightness."""
    rng = np.random.default_rng(0)
    for label, level in (("bright", 160), ("dark", 20)):
        (tmp_path / "own" / label).mkdir(parents=True)
        for i in range(12):
            array = rng.integers(level, level + 60, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / "own" / label / f"{i}.png")
    return tmp_path / "own"


@pytest.fixture(autouse=True)
def no_figures(monkeypatch, request):
    if "figures" not in request.keywords:
        monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})


def stopped(monkeypatch, after=2, **more):
    """A run that was stopped after so many epochs."""
    config, told = tiny(**more), []
    append = JsonlLog.append
    with monkeypatch.context() as patch:
        patch.setattr(JsonlLog, "append", lambda self, row: told.append(1) or append(self, row))
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal_number", 15) or len(told) >= after)
        with pytest.raises(Interrupted):
            run(config)
    return config, RunFolder.of(config)


@pytest.mark.parametrize("how", ["missing", "first missing", "halved", "reversed", "garbage", "no row"])
def test_metrics_that_the_checkpoint_knows_of_must_be_there(how, monkeypatch):
    config, folder = stopped(monkeypatch)
    file = folder.metrics.path
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 2
    if how == "missing":
        file.unlink()
    else:
        file.write_text(
            {"first missing": lines[1], "halved": lines[0] + lines[1][:40], "reversed": lines[1] + lines[0],
             "garbage": "\x00\x01\n" + lines[1], "no row": lines[0] + '{"epoch": 1}\n'}[how]
        )  # fmt: skip
    with pytest.raises(DivaugError, match=r"metrics\.jsonl.*(lacks epochs|order|damaged|holds no epoch)"):
        run(config)
    assert not folder.finished
    file.write_text("".join(lines))  # brought back, as the message says
    assert [row["epoch"] for row in run(config).metrics.rows()] == [0, 1, 2]


def test_rows_written_twice_are_kept_once(monkeypatch):
    config, folder = stopped(monkeypatch)
    text = folder.metrics.path.read_text()
    folder.metrics.path.write_text(text + text)
    assert [row["epoch"] for row in run(config).metrics.rows()] == [0, 1, 2]


def test_without_its_checkpoint_a_run_begins_again_and_says_so(monkeypatch, capsys):
    _, folder = stopped(monkeypatch, progress="lines")  # the same configuration, so that nothing else renews it
    folder.checkpoint.unlink()
    renewed = []
    monkeypatch.setattr("divaug.runs.folder.Note", lambda path: SimpleNamespace(renew=lambda: renewed.append(path)))
    run(configure(**{**KEYS, "progress": "lines"}))
    assert "has no checkpoint: training begins again" in capsys.readouterr().err
    assert len(renewed) == 1  # what MLflow has is of the training that was given up


MOVING = """
import torch
from torch import nn
from divaug.config.registry import LOSSES

@LOSSES.register("moving")
class Moving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits, labels):
        self.calls += 1
        return nn.functional.cross_entropy(logits, labels, reduction="none") / self.calls
"""


def test_a_loss_with_a_state_goes_on_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "moving.py").write_text(MOVING)
    own = {"imports": (str(tmp_path / "moving.py"),), "loss": "moving"}
    whole = run(tiny(**own, experiment="whole"))
    config, folder = stopped(monkeypatch, **own)
    assert run(config).metrics.rows()[-1]["metrics"]["train/loss"] == whole.metrics.rows()[-1]["metrics"]["train/loss"]
    assert torch.load(folder.checkpoint, weights_only=True)["others"][0]["criterion"]["calls"] > 2


def test_code_that_changed_after_this_process_imported_it_does_not_run_under_its_new_name(tmp_path):
    """A notebook keeps what it imported; the record would be of the file as it is now."""
    file = tmp_path / "edited.py"
    file.write_text(MOVING.replace("moving", "edited"))
    own = {"imports": (str(file),), "loss": "edited", "epochs": 1}
    run(tiny(**own))
    file.write_text(file.read_text().replace("+= 1", "+= 2"))
    with pytest.raises(ConfigError, match=r"edited\.py has changed since this process imported it"):
        run(tiny(**own, experiment="again"))
    assert not RunFolder.of(tiny(**own, experiment="again")).checkpoint.exists()


def test_a_loss_that_would_learn_is_refused(tmp_path):
    (tmp_path / "learns.py").write_text(
        MOVING.replace("moving", "learns").replace(
            'self.register_buffer("calls", torch.zeros(()))', "self.calls = nn.Parameter(torch.ones(()))"
        )
    )
    with pytest.raises(ConfigError, match="loss 'learns' has parameters to be learned"):
        run(tiny(imports=(str(tmp_path / "learns.py"),), loss="learns"))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 1}, "seed 1 instead of 0"),
        ({"method": "ros"}, "method 'ros' instead of 'erm'"),
        ({"lr": 0.01}, "protocol"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(other, said, monkeypatch):
    config, folder = stopped(monkeypatch)
    _, theirs = stopped(monkeypatch, **other, **({"experiment": "other"} if "lr" in other else {}))
    shutil.copy(theirs.checkpoint, folder.checkpoint)
    with pytest.raises(DivaugError, match=rf"belongs to another run: .*{said}.*delete it"):
        run(config)


def test_a_damaged_checkpoint_is_named_whatever_is_wrong(monkeypatch):
    config, folder = stopped(monkeypatch)
    whole = folder.checkpoint.read_bytes()
    content = torch.load(folder.checkpoint, weights_only=True)
    first = next(iter(content["model"]))
    middle = bytearray(whole)
    middle[whole.index(content["model"][first].numpy().tobytes()[:64])] ^= 4  # a bit of a weight, not of the padding
    for broken in (
        bytes(middle), b"", whole[:1000], {"epoch": 3}, {**content, "epoch": "two"}, {**content, "epoch": 99},
        {**content, "model": {**content["model"], first: torch.zeros(1)}}, {**content, "totals": {"x": 1}},
        {**content, "features": []}, {**content, "optimizer": {}}, [1, 2],
    ):  # fmt: skip
        if isinstance(broken, bytes):
            folder.checkpoint.write_bytes(broken)
        else:
            torch.save(broken, folder.checkpoint)
        with pytest.raises(DivaugError, match=r"last\.pt.*delete it"):
            run(config)
    folder.checkpoint.write_bytes(whole)
    assert run(config).finished


def test_another_version_is_told(monkeypatch, capsys):
    _, folder = stopped(monkeypatch)
    file = folder.path / "environment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "torch": "1.0", "threads": 3}))
    run(configure(**{**KEYS, "progress": "lines"}))
    assert f"started with torch 1.0, now {torch.__version__}: results may differ" in capsys.readouterr().err


def test_a_run_can_be_resumed_from_another_folder_and_after_a_move(images, monkeypatch):
    argv = [
        "own",
        "--test-frac",
        "0.3",
        "--epochs",
        "2",
        "--image-size",
        "12",
        "--method",
        "erm",
        "--tracking",
        "off",
        "--quiet",
    ]
    argv += ["--model.widths", "[8]", "--top-k", "4"]
    os.chdir(images.parent)
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal_number", 15) or True)
        assert folder_lt.main(argv) == 143
    (folder,) = find_runs(["runs"])
    assert folder.config.path == str(images) and Path(folder.config.output_dir).is_absolute()
    Path("elsewhere").mkdir()
    Path("runs").rename("elsewhere/moved")
    os.chdir("elsewhere")
    (folder,) = find_runs(["moved"])
    assert folder_lt.main(["--resume", str(folder.path), "--tracking", "off", "--quiet"]) == 0
    assert folder.finished and not Path("runs").exists()
    images.rename(images.with_name("other place"))  # the images too
    (folder.path / "result.json").unlink()
    assert folder_lt.main(["--resume", str(folder.path), "--tracking", "off", "--quiet"]) == 3
    there = str(images.with_name("other place"))
    assert folder_lt.main([there, "--resume", str(folder.path), "--tracking", "off", "--quiet"]) == 0


def test_an_encoder_and_extra_images_are_known_by_content_not_by_place():
    from divaug.runs.folder import _without_places

    one, other = (tiny(encoder=f"{place}/digits-b-1a2b3c4d.pt", data_part="a") for place in ("x", "y"))
    assert one.encoder == os.path.abspath("x/digits-b-1a2b3c4d.pt") != other.encoder
    assert _without_places(one) == _without_places(other)
    assert _without_places(one) != _without_places(tiny(encoder="x/digits-b-00000000.pt", data_part="a"))
    for place, text in (("x", "path,label\n"), ("y", "path,label\n"), ("z", "other\n")):
        Path(place).mkdir()
        Path(place, "more.csv").write_text(text)
    x, y, z = (_without_places(tiny(extra_train=f"{place}/more.csv")) for place in "xyz")
    assert x == y != z


def test_the_copies_that_mlflow_keeps_are_no_runs():
    folder = run(tiny())
    for copy in ("runs/mlartifacts/tiny/" + "0a" * 16 + "/artifacts", "elsewhere/" + "b1" * 16 + "/artifacts"):
        shutil.copytree(folder.path, copy)
    shutil.copytree(folder.path, "runs/mine/artifacts/seed0")
    assert [found.path for found in find_runs(["runs", "elsewhere/..", "runs/tiny"])] == [
        Path("runs/mine/artifacts/seed0").resolve(), folder.path,
    ]  # fmt: skip
    with pytest.raises(DivaugError, match="no run folder"):
        find_runs(["elsewhere"])


@pytest.mark.figures
def test_a_result_is_on_disk_before_anything_is_drawn_and_what_is_missing_is_made_again(monkeypatch, capsys):
    config = tiny()
    folder = RunFolder.of(config)

    def fail(path, *anything):
        assert folder.finished
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("divaug.figures.run._recall", fail)
        patch.setattr(RunFolder, "write_per_class", lambda self, rows: fail(None))
        run(config)
    said = capsys.readouterr().err
    assert (
        "could not write" in said and "recall.png" in said and "per_class.parquet" in said and "growth.png" not in said
    )
    assert folder.finished and (folder.figures / "growth.png").exists()
    result, drawn = folder.result, (folder.figures / "growth.png").stat().st_mtime_ns
    run(config)  # the same command
    assert (folder.figures / "recall.png").exists() and folder.table.exists() and folder.result == result
    assert (folder.figures / "growth.png").stat().st_mtime_ns == drawn
    for leftover in folder.figures.iterdir():
        assert leftover.suffix == ".png"
    (folder.path / "metrics.jsonl").unlink()
    (folder.figures / "recall.png").unlink()
    run(config)
    assert folder.finished and "the result is complete" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_costs_a_warning(capsys, monkeypatch):
    def fail(*anything):
        raise OSError("read-only")

    monkeypatch.setattr("divaug.report.comparison_page.write_report", fail)
    argv = ["--epochs", "1", "--method", "erm", "--experiment", "tiny", "--tracking", "off"]
    assert digits_lt.main(argv) == 0
    shown = capsys.readouterr()
    assert "no report in" in shown.err and "python -m divaug.recipes.compare runs/tiny" in shown.err
    assert "worst" in shown.out and "figures:" not in shown.out


@pytest.mark.parametrize("where", ["/proc/x.csv", "/dev/null", "folder", "file/x.csv", "other.csv"])
def test_an_unwritable_file_of_results_is_found_before_training(where, monkeypatch, capsys):
    Path("folder").mkdir()
    Path("file").touch()
    Path("other.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr(loop, "_train", lambda *a: pytest.fail("trained"))
    argv = ["--epochs", "1", "--method", "erm", "--tracking", "off"]
    assert digits_lt.main([*argv, "--results", where]) in (1, 2)
    assert Path(where).name in capsys.readouterr().err and not Path("runs").exists()
    assert Path("other.csv").read_text() == "a,b\n1,2\n"


def test_a_row_that_cannot_be_written_after_all_costs_a_warning(monkeypatch, capsys):
    from divaug.report import results

    def fail(*anything):
        raise OSError("disk full")

    argv = ["--epochs", "1", "--method", "erm", "--experiment", "tiny", "--tracking", "off", "--results", "rows.csv"]
    with monkeypatch.context() as patch:
        patch.setattr(results, "append", fail)
        assert digits_lt.main(argv) == 0
    assert "disk full" in capsys.readouterr().err and not Path("rows.csv").exists()
    assert digits_lt.main(argv) == 0  # the same command adds it
    assert len(results.read(Path("rows.csv"))) == 1


def test_a_run_that_was_moved_without_the_folders_above_it_is_named():
    assert RunFolder("/runs/e/erm/seed0").output_dir == Path("/runs")
    with pytest.raises(ConfigError, match="/tmp/seed0 lies too high for a run"):
        _ = RunFolder("/tmp/seed0").output_dir


def test_names_stay_inside_the_output_folder():
    for name in ("../x", "..", ".", "a/b", "", "a\x1b[2Jb", "a\nb", "x" * 201):
        with pytest.raises(ConfigError, match="experiment must be one folder's name"):
            tiny(experiment=name)
    assert tiny(experiment="Größe 3 (b)").experiment == "Größe 3 (b)"


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("manifest.json", "class_names", [1, 2]), ("manifest.json", "counts", "many"), ("manifest.json", "counts", [1]),
        ("manifest.json", "mean", None), ("manifest.json", "data", 3), ("result.json", "final/test_acc", "good"),
        ("result.json", "final/test_acc", 10**400), ("result.json", "final/test_acc", [1]),
    ],
)  # fmt: skip
def test_a_damaged_file_of_a_run_is_named(file, key, value):
    folder = run(tiny())
    path = folder.path / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DivaugError, match=rf"{file} is damaged: {key} is "):
        _ = folder.manifest, folder.result
    path.write_text("[1]")
    with pytest.raises(DivaugError, match=f"{file} is damaged"):
        _ = folder.manifest, folder.result


def test_code_that_a_foreign_run_folder_names_is_not_run(monkeypatch):
    monkeypatch.setattr(user_files, "_looked_at", [])
    monkeypatch.setattr(user_files, "_trusting", False)
    from divaug.recipes import compare, upload

    folder, evil = run(tiny()), Path("evil.py")
    evil.write_text(
        "import pathlib\npathlib.Path('RAN').touch()\nfrom divaug import LOSSES\nLOSSES.register('a' + 'b')(lambda: None)\n"
    )
    config = folder.path / "config.toml"
    config.write_text(config.read_text().replace("import = []", f"import = [{str(evil.resolve())!r}]"))
    assert "evil.py" in config.read_text()
    load(folder.path)
    assert compare.main(["runs"]) == 0 and upload.main(["runs", "--tracking", f"sqlite:///{Path.cwd()}/x.db"]) == 0
    assert not Path("RAN").exists()
    load(folder.path, trust_imports=True)
    assert Path("RAN").exists()


def test_outputs_say_of_every_image_what_was_predicted(tmp_path):
    """Files, groups and labels of the test and validation parts, in the order of their logits."""
    rng = np.random.default_rng(0)
    rows = [("path", "label", "group")]
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", "ab"[i % 2], f"g{i // 4}"))
    (tmp_path / "t.csv").write_text("\n".join(",".join(row) for row in rows))
    config = configure(
        dataset="csv", path=str(tmp_path / "t.csv"), image_size=8, epochs=1, val_frac=0.2, tracking="off", monitor=False,
        progress="none", output_dir=str(tmp_path / "runs"), **{"model.widths": [8]},
    )  # fmt: skip
    folder, data = run(config), load_data(config)
    told = {row[0]: row[1:] for row in rows[1:]}
    assert data.val is not None
    for split, part in (("test", data.test), ("val", data.val)):
        table = folder.outputs(split)
        assert list(table.columns) == ["path", "group", "label", "predicted", "logit_a", "logit_b"]
        assert table["path"].tolist() == list(part.paths) and len(table) == len(part.labels)
        for row in table.itertuples():
            assert told[row.path.rsplit("/", 1)[-1]] == (row.label, row.group)
            assert row.predicted == ("a" if row.logit_a >= row.logit_b else "b")
    found = load(folder).predict(folder.outputs("test")["path"].tolist())
    assert found["label"].tolist() == folder.outputs("test")["predicted"].tolist()
    (folder.path / "result.json").unlink()
    with pytest.raises(DivaugError, match="has no outputs of a part 'test', or is not finished"):
        folder.outputs("test")


def test_an_image_and_its_copies_are_a_group_in_outputs(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            image = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            for copy in range(3 if i < 10 else 1):
                image.save(tmp_path / "images" / name / f"{i}_{copy}.png")
    folder = run(configure(
        dataset="image_folder", path=str(tmp_path / "images"), image_size=8, epochs=1, tracking="off", monitor=False,
        progress="none", output_dir=str(tmp_path / "runs"), **{"model.widths": [8]},
    ))  # fmt: skip
    table = folder.outputs("test")
    names = table["path"].str.extract(r"/([ab])/(\d+)_")
    by_picture = table.groupby([names[0], names[1]])
    assert (by_picture["group"].nunique() == 1).all() and table["group"].nunique() == len(by_picture)
    assert table["group"].str.endswith("_2.png").sum() == 3 * (by_picture.size() == 3).sum() > 0


def test_a_run_in_progress_tells_its_pace(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.pace() is None
    folder.path.mkdir()
    (folder.path / "config.toml").write_text("epochs = 10\n")
    folder.metrics.path.touch()
    assert folder.pace() is None
    for epoch, seconds in enumerate((9.0, 2.0, 3.0)):
        row = {"epoch": epoch, "metrics": {"train/epoch_seconds": seconds}, "per_class": {}}
        with folder.metrics.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        assert (folder.pace() is None) == (epoch == 0)
    assert folder.pace() == (30.0, 21.0)

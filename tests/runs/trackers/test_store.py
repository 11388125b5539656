"""The store as such: first use, moves, and what it is known to hold."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from divaug.base.files import exclusive
from divaug.recipes import digits_lt, upload
from divaug.runs.folder import RunFolder
from divaug.runs.trackers.mlflow import MlflowTracker, Note, is_mirrored
from divaug.runs.trackers.store import first_use, has_ended, page_of, server_command, sqlite_file, store_uri
from divaug.runs.tracking import epoch_metrics

TINY = [
    "--progress", "none", "--dataset", "digits", "--epochs", "2", "--imbalance-factor", "5", "--max-per-class", "24",
    "--model.widths", "[8]", "--top-k", "4", "--experiment", "tiny", "--eval-every", "1", "--method", "erm",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})
    monkeypatch.setattr("divaug.figures.compare.draw_comparison", lambda *a: [])


def runs_of(uri, experiment="tiny"):
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else client.search_runs([found.experiment_id])


def tracker(uri, folder, **more):
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "output_dir": folder.parent, "experiment": "e", "run_name": "r", "folder": folder, "params": {}, "tags": {},
        "description": "what it is", "say": pytest.fail,
    }  # fmt: skip
    return MlflowTracker(uri, **{**settings, **more})


def test_a_store_is_made_whole_or_not_at_all(tmp_path):
    """Killed again and again while it makes its store, then once left in peace."""
    script = f"""
import sys, divaug
from pathlib import Path
from divaug.runs.trackers.store import first_use
print("go", flush=True)
with first_use({store_uri(tmp_path)!r}, Path({str(tmp_path)!r})): pass
"""
    for wait in (0.0, 1.5, 2.5):
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        child.stdout.read(2)
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if (tmp_path / "mlflow.db").exists():
            with sqlite3.connect(tmp_path / "mlflow.db") as database:
                assert database.execute("select count(*) from experiments").fetchone() == (1,)
            database.close()
    with first_use(store_uri(tmp_path), tmp_path):
        pass
    client = MlflowClient(store_uri(tmp_path))
    assert client.get_experiment("0").artifact_location.startswith(tmp_path.as_uri())
    assert not list(tmp_path.glob(".mlflow.db*"))


def test_a_half_made_store_is_replaced_and_anything_else_is_left_alone(tmp_path, store):
    half = tmp_path / "half" / "mlflow.db"
    half.parent.mkdir()
    with sqlite3.connect(half) as database:
        database.execute("create table experiments (experiment_id integer)")
    database.close()
    with tracker(store_uri(half.parent), half.parent / "run") as ours:
        assert ours.alive
    with sqlite3.connect(half) as database:
        database.execute("delete from experiments")
        database.execute("create table theirs (x integer)")
        database.execute("insert into theirs values (1)")
    database.close()
    before = half.read_bytes()
    with first_use(store_uri(half.parent), tmp_path):  # a table of experiments, but somebody's data beside it
        assert half.read_bytes() == before
    foreign = tmp_path / "foreign" / "mlflow.db"
    foreign.parent.mkdir()
    with sqlite3.connect(foreign) as database:
        database.execute("create table theirs (x integer)")
    database.close()
    before = foreign.read_bytes()
    with first_use(store_uri(foreign.parent), tmp_path):
        assert foreign.read_bytes() == before
    with first_use(store_uri(store), tmp_path):  # a whole one
        pass
    assert runs_of(store_uri(store)) == []


def test_the_lock_of_the_first_use_belongs_to_the_store(tmp_path, store):
    """Two output folders may share one store: while one holds its lock, the other waits."""
    with exclusive(store / "mlflow.db.lock", wait=False):
        child = subprocess.Popen(
            [sys.executable, "-m", "divaug.recipes.digits_lt", *TINY, "--tracking", store_uri(store), "--output-dir", "b"],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(600):
            if Path("b/tiny/erm/seed0/manifest.json").exists():
                break
            time.sleep(0.1)
        time.sleep(2)
        assert not Path("b/tiny/erm/seed0/metrics.jsonl").exists() and runs_of(store_uri(store)) == []
    assert child.wait(120) == 0
    assert [run.info.status for run in runs_of(store_uri(store))] == ["FINISHED"]


def test_an_experiment_opens_on_the_columns_that_matter(store):
    assert digits_lt.main(TINY) == 0
    client = MlflowClient(store_uri(store))
    tags = client.get_experiment_by_name("tiny").tags
    view = json.loads(tags["mlflow.sharedViewState.divaug"])
    assert view["orderByKey"] == "metrics.`final/test_bal_acc`" and view["orderByAsc"] is False
    (run,) = runs_of(store_uri(store))
    for column in view["selectedColumns"]:
        kind, _, key = column.partition(".")
        assert key.strip("`") in {"params": run.data.params, "metrics": run.data.metrics}[kind], column
    assert "digits, profile exp, imbalance factor 5" in tags["mlflow.note.content"]
    assert {f"test/recall/{c}" for c in range(10)} <= set(run.data.metrics)
    folder = RunFolder("runs/tiny/erm/seed0")
    last = folder.metrics.rows()[-1]["per_class"]["test/recall"]
    assert [run.data.metrics[f"test/recall/{c}"] for c in range(10)] == last
    assert len(client.get_metric_history(run.info.run_id, "test/recall/3")) == 2
    client.set_experiment_tag(run.info.experiment_id, "mlflow.note.content", "mine")
    assert digits_lt.main([*TINY, "--seed", "1"]) == 0
    assert client.get_experiment_by_name("tiny").tags["mlflow.note.content"] == "mine"  # a person's words stay


def test_recalls_are_logged_for_up_to_a_hundred_classes():
    def logged(names, recalls=None):
        row = {"metrics": {"train/loss": 1.0}, "per_class": {"test/recall": recalls or [0.5] * len(names)}}
        return epoch_metrics(row, names)

    assert logged(["a", "b/c", "d(e)", "..", "b_c"]) == {
        "train/loss": 1.0, "test/recall/a": 0.5, "test/recall/b_c": 0.5, "test/recall/d_e_": 0.5, "test/recall/_": 0.5,
        "test/recall/b_c_": 0.5,
    }  # fmt: skip
    assert set(logged(["a", "b"], [0.1, float("nan")])) == {"train/loss", "test/recall/a"}
    assert len(logged([str(c) for c in range(100)])) == 101 and len(logged([str(c) for c in range(101)])) == 1
    assert epoch_metrics({"metrics": {"x": 1.0}, "per_class": {}}, ["a"]) == {"x": 1.0}


def test_passwords_are_neither_kept_nor_printed(tmp_path, capfd, monkeypatch):
    uri = "http://me:s3cr3t@127.0.0.1:9"
    argv = [*TINY, "--tracking", uri, "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["digits_lt", *argv])
    assert digits_lt.main(argv) == 0
    assert digits_lt.main([*argv, "--print-config"]) == 0
    shown = capfd.readouterr()
    assert "tracking failed" in shown.err and "s3cr3t" not in shown.err + shown.out
    files = [path for path in Path("runs").rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"s3cr3t" in path.read_bytes()]
    assert 'tracking = "http://127.0.0.1:9"' in Path("runs/tiny/erm/seed0/config.toml").read_text()
    assert server_command(uri) == "open http://127.0.0.1:9"
    assert page_of(uri, "3") == "http://127.0.0.1:9/#/experiments/3/runs?viewStateShareKey=divaug"
    assert page_of("sqlite:////x.db", None) == "http://127.0.0.1:5000"


def test_a_finished_run_goes_to_another_store_and_again_to_a_deleted_one(store, tmp_path):
    assert digits_lt.main(TINY) == 0
    other = f"sqlite:///{tmp_path}/other.db"
    assert digits_lt.main([*TINY, "--tracking", other]) == 0
    (first,), (second,) = runs_of(store_uri(store)), runs_of(other)
    assert (
        second.info.status == "FINISHED"
        and second.data.metrics["final/test_bal_acc"] == first.data.metrics["final/test_bal_acc"]
    )
    folder = Path("runs/tiny/erm/seed0")
    assert is_mirrored(folder, other) and is_mirrored(folder, store_uri(store))
    assert digits_lt.main(TINY) == 0
    assert [run.info.run_id for run in runs_of(store_uri(store))] == [first.info.run_id]  # the same, and once
    os.remove(tmp_path / "other.db")
    assert not is_mirrored(folder, other)
    assert digits_lt.main([*TINY, "--tracking", other]) == 0
    assert [run.info.status for run in runs_of(other)] == ["FINISHED"]


def test_a_run_killed_between_mirror_and_status_is_ended_afterwards(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "_end", lambda self, status: None)  # as if it died there
        assert digits_lt.main(TINY) == 0
    (run,) = runs_of(store_uri(store))
    assert run.info.status == "RUNNING" and not is_mirrored(Path("runs/tiny/erm/seed0"), store_uri(store))
    assert digits_lt.main(TINY) == 0
    (again,) = runs_of(store_uri(store))
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert len(MlflowClient(store_uri(store)).get_metric_history(run.info.run_id, "train/loss")) == 2


def test_a_run_is_found_again_although_its_folder_did_not_note_it(store, tmp_path, monkeypatch):
    """Killed after the run was made and before its number was written down."""
    folder = tmp_path / "runs" / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Note, "keep", lambda self, uri, **known: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tracker(store_uri(store), folder).__enter__()
    with tracker(store_uri(store), folder):
        pass
    assert [run.info.status for run in runs_of(store_uri(store), "e")] == ["FINISHED"]


def test_only_runs_whose_folder_proves_it_are_swept(store, tmp_path, monkeypatch):
    uri = store_uri(store)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "_sweep", lambda *a: None)
        for name in ("dead", "done", "alive", "foreign", "copied", "moved"):
            tracker(uri, tmp_path / name).__enter__()  # a process that is killed says no goodbye
    (tmp_path / "done" / "result.json").write_text("{}")
    client = MlflowClient(uri)
    of = {Path(run.data.tags["divaug.folder"]).name: run.info.run_id for run in runs_of(uri, "e")}
    client.set_tag(of["foreign"], "divaug.host", "another-" + socket.gethostname())
    (tmp_path / "copied" / "mlflow.json").unlink()  # another machine's folder at the same place: no such token
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    with exclusive(tmp_path / "alive" / "run.lock", wait=False), tracker(uri, tmp_path / "new"):
        pass
    status = {name: client.get_run(run).info.status for name, run in of.items()}
    assert status == {
        "dead": "KILLED",
        "done": "FINISHED",
        "alive": "RUNNING",
        "foreign": "RUNNING",
        "copied": "RUNNING",
        "moved": "RUNNING",
    }


def test_a_folder_that_gets_other_parameters_begins_another_run(store, tmp_path):
    folder = tmp_path / "run"
    tracker(store_uri(store), folder).__enter__()
    Note(folder).renew()
    with tracker(store_uri(store), folder):
        pass
    assert sorted(run.info.status for run in runs_of(store_uri(store), "e")) == ["FINISHED", "KILLED"]


def test_a_moved_output_folder_keeps_its_store(store, tmp_path):
    assert digits_lt.main(TINY) == 0
    (run,) = runs_of(store_uri(store))
    store.rename(tmp_path / "moved")
    assert digits_lt.main([*TINY, "--output-dir", "moved", "--seed", "1"]) == 0
    uri = store_uri(tmp_path / "moved")
    client = MlflowClient(uri)
    place = (tmp_path / "moved" / "mlartifacts" / "tiny").as_uri()
    assert client.get_experiment_by_name("tiny").artifact_location == place
    assert {f.path for f in client.list_artifacts(run.info.run_id)} >= {"config.toml", "result.json"}
    assert len(runs_of(uri)) == 2 and not store.exists()
    assert upload.main(["moved/tiny/erm/seed0"]) == 0
    assert len(runs_of(uri)) == 2


def test_what_a_store_is_known_to_hold(store, tmp_path):
    assert sqlite_file("http://x") is None and sqlite_file("sqlite:////a%3Fb/m.db") == Path("/a?b/m.db")
    assert has_ended("http://x", "anything") and not has_ended(f"sqlite:///{tmp_path}/none.db", "x")
    assert not has_ended(store_uri(store), "x")
    Path("damaged.db").write_text("no database")
    assert not has_ended(f"sqlite:///{tmp_path}/damaged.db", "x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mlflow.json").write_text("[1]")
    assert Note(tmp_path / "run").stores == {} and len(Note(tmp_path / "run").token) == 32


def test_a_store_that_several_output_folders_share_is_not_moved_with_one_of_them(tmp_path, store):
    shared = f"sqlite:///{tmp_path}/shared.db"
    assert digits_lt.main([*TINY, "--output-dir", "a", "--tracking", shared]) == 0
    place = MlflowClient(shared).get_experiment_by_name("tiny").artifact_location
    Path("a").rename("a2")
    assert digits_lt.main([*TINY, "--output-dir", "b", "--tracking", shared, "--seed", "1"]) == 0
    assert MlflowClient(shared).get_experiment_by_name("tiny").artifact_location == place


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "http://me:a b@host", "http://host/a b"])
def test_addresses_that_keep_nothing_or_cannot_be_read_are_refused(uri, capsys):
    assert digits_lt.main([*TINY, "--tracking", uri]) == 2
    assert "tracking" in capsys.readouterr().err and not Path("runs/tiny/erm/seed0/config.toml").exists()

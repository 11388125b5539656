import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from divaug.base.errors import DivaugError, Interrupted
from divaug.recipes import digits_lt, upload
from divaug.runs.folder import RunFolder
from divaug.runs.trackers.jsonl import JsonlLog
from divaug.runs.trackers.mlflow import MlflowTracker
from divaug.runs.trackers.store import server_command, store_uri

TINY = [
    "--progress", "none", "--dataset", "digits", "--epochs", "3", "--imbalance-factor", "5", "--max-per-class", "24",
    "--model.widths", "[8]", "--top-k", "4", "--experiment", "tiny", "--eval-every", "1", "--method", "erm",
]  # fmt: skip


def client(store):
    return MlflowClient(store_uri(store))


def unreachable(folder):
    """A store below a plain file, which nobody can make."""
    (folder / "file").write_text("")
    return f"sqlite:///{folder / 'file' / 'x.db'}"


def only_run(store, experiment="tiny"):
    found = client(store).get_experiment_by_name(experiment)
    (run,) = client(store).search_runs([found.experiment_id])
    return run


def tracker(store, tmp_path, said=None, **kwargs):
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    settings = {
        "output_dir": store, "experiment": "e", "run_name": "r", "folder": folder, "params": {"lr": 0.1},
        "tags": {"a": "b"}, "description": "what it is", "say": (said if said is not None else []).append,
    }  # fmt: skip
    return MlflowTracker(kwargs.pop("uri", store_uri(store)), **{**settings, **kwargs})


def test_values_are_read_back_as_logged(store, tmp_path):
    with tracker(store, tmp_path, params={f"p{i}": "x" * 900 for i in range(130)}) as ours:
        ours.log({"train/loss": 0.5, "z": float("nan"), **{f"m{i}": i for i in range(1200)}}, 0)
        ours.log({"train/loss": 0.25}, 1)
        ours.log({"train/loss": 9.0}, 1)  # an epoch is logged once
        ours.log_final({"final/acc": 0.75})
        ours.log_final({"final/acc": 0.1})
        (tmp_path / "a.txt").write_text("hello")
        ours.artifact(tmp_path / "a.txt", "texts")
    run = only_run(store, "e")
    assert run.info.status == "FINISHED" and run.data.tags["a"] == "b" and len(run.data.params) == 130
    assert run.data.metrics["m1199"] == 1199 and run.data.metrics["final/acc"] == 0.75
    history = client(store).get_metric_history(run.info.run_id, "train/loss")
    assert [(p.step, p.value) for p in history] == [(0, 0.5), (1, 0.25)]
    assert run.info.artifact_uri.startswith((store / "mlartifacts").as_uri())
    assert [f.path for f in client(store).list_artifacts(run.info.run_id, "texts")] == ["texts/a.txt"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(Interrupted(15), "KILLED"), (KeyboardInterrupt(), "KILLED"), (ValueError(), "FAILED"), (SystemExit(1), "FAILED")],
)
def test_runs_end_truthfully(store, tmp_path, error, status):
    with pytest.raises(type(error)), tracker(store, tmp_path):
        raise error
    assert only_run(store, "e").info.status == status


def test_an_outage_ends_the_mirroring_and_nothing_else(store, tmp_path):
    said = []
    with tracker(store, tmp_path, said) as ours:
        ours.log({"train/loss": 1.0}, 0)
        ours._client.log_batch = lambda *a, **k: (_ for _ in ()).throw(ConnectionError("the store is gone"))
        ours.log({"train/loss": 1.0}, 1)
        ours.log({"train/loss": 1.0}, 2)
        assert not ours.alive
    assert len(said) == 1 and "the store is gone" in said[0] and "divaug.recipes.upload" in said[0]


def test_an_unreachable_store_is_told_once(store, tmp_path):
    said = []
    with tracker(store, tmp_path, said, uri=unreachable(tmp_path)) as ours:
        ours.log({"x": 1.0}, 0)
    assert len(said) == 1


def test_a_users_own_run_is_logged_into_and_not_ended(store, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(store))
    mlflow.set_tracking_uri(store_uri(store))
    try:
        with mlflow.start_run() as theirs:
            with tracker(store, tmp_path) as ours:
                ours.log({"x": 2.0, "train/loss": 2.0}, 0)
            assert mlflow.active_run() is not None
            assert client(store).get_run(theirs.info.run_id).data.metrics["x"] == 2.0
            assert client(store).get_run(theirs.info.run_id).info.status == "RUNNING"
            with tracker(store, tmp_path) as ours:  # resumed
                ours.log({"train/loss": 9.0}, 0)  # it is there
                ours.log({"x": 3.0}, 1)
            (loss,) = client(store).get_metric_history(theirs.info.run_id, "train/loss")
            assert loss.value == 2.0
            other = tmp_path / "other"
            other.mkdir()
            for value in (5.0, 6.0):
                with tracker(store, tmp_path, folder=other) as second:  # another run of ours, and resumed
                    second.log({"x": value}, int(value))
            own = client(store).get_run(theirs.info.run_id)
            assert own.data.metrics["x"] == 3.0 and own.info.status == "RUNNING"
            runs = client(store).search_runs([theirs.info.experiment_id])
            (child,) = [run for run in runs if run.info.run_id != theirs.info.run_id]
            assert child.data.tags["mlflow.parentRunId"] == theirs.info.run_id and child.info.status == "FINISHED"
            assert child.data.metrics["x"] == 6.0
        with mlflow.start_run() as later, tracker(store, tmp_path, folder=other), tracker(store, tmp_path):
            pass  # the second one, whose own run is the first's: neither ended nor moved
        first = client(store).get_run(theirs.info.run_id)
        assert first.info.status == "FINISHED" and "mlflow.parentRunId" not in first.data.tags
        mine = {
            run.data.tags.get("mlflow.parentRunId") for run in client(store).search_runs([later.info.experiment_id])
        }
        assert mine == {None, theirs.info.run_id, later.info.run_id}
    finally:
        mlflow.set_tracking_uri(None)


def test_what_a_user_logged_before_in_a_run_of_theirs_hides_nothing(store, tmp_path, monkeypatch):
    """Their train/loss is no record of our epochs; ours, once logged, is."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(store))
    mlflow.set_tracking_uri(store_uri(store))
    try:
        with mlflow.start_run() as theirs:
            mlflow.log_metric("train/loss", 7.0, step=0)
            with tracker(store, tmp_path) as ours:
                ours.log({"train/loss": 2.0, "x": 1.0}, 0)
            with tracker(store, tmp_path) as ours:
                ours.log({"train/loss": 9.0, "x": 9.0}, 0)
            values = {
                key: [point.value for point in client(store).get_metric_history(theirs.info.run_id, key)]
                for key in ("train/loss", "x")
            }
        assert sorted(values["train/loss"]) == [2.0, 7.0] and values["x"] == [1.0]
    finally:
        mlflow.set_tracking_uri(None)


def test_a_run_is_mirrored_whole(store, capsys):
    assert digits_lt.main(TINY) == 0
    assert "mlflow server" in capsys.readouterr().out
    run, folder = only_run(store), RunFolder("runs/tiny/erm/seed0")
    assert run.info.status == "FINISHED" and run.data.params["label"] == "erm"
    assert run.data.params["mix"] == "none" and run.data.params["model"] == "whitened_cnn"
    assert run.data.params["model.widths"] == "[8]" and run.data.params["model.head"] == "linear"
    assert run.data.metrics["final/test_bal_acc"] == folder.result["final/test_bal_acc"]
    history = client(store).get_metric_history(run.info.run_id, "test/bal_acc")
    assert [p.value for p in history] == [row["metrics"]["test/bal_acc"] for row in folder.metrics.rows()]
    files = {f.path for f in client(store).list_artifacts(run.info.run_id)}
    assert {"config.toml", "manifest.json", "metrics.jsonl", "per_class.parquet", "figures"} <= files


def test_a_run_without_tracking_is_uploaded_afterwards(store, capsys):
    assert digits_lt.main([*TINY, "--tracking", "off"]) == 0
    assert client(store).get_experiment_by_name("tiny") is None
    assert upload.main(["runs/tiny"]) == 0
    first = only_run(store)
    assert first.info.status == "FINISHED"
    assert len(client(store).get_metric_history(first.info.run_id, "train/loss")) == 3
    assert upload.main(["runs/tiny"]) == 0  # again: nothing twice
    assert len(client(store).get_metric_history(only_run(store).info.run_id, "train/loss")) == 3
    assert upload.main(["runs/tiny", "--tracking", unreachable(Path.cwd())]) == 1
    assert "could not be mirrored" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_in_the_same_mlflow_run(store, monkeypatch):
    from divaug.base.signals import StopRequest

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", lambda self: setattr(self, "signal_number", 15) or True)
        assert digits_lt.main([*TINY, "--tracking", "off"]) == 143
    assert digits_lt.main(TINY) == 0
    run = only_run(store)
    history = client(store).get_metric_history(run.info.run_id, "train/loss")
    assert [p.step for p in history] == [0, 1, 2] and run.info.status == "FINISHED"


def test_training_survives_a_store_that_cannot_be_reached(store, capsys):
    assert digits_lt.main([*TINY, "--tracking", unreachable(Path.cwd())]) == 0
    assert "tracking failed" in capsys.readouterr().err
    assert RunFolder("runs/tiny/erm/seed0").finished


def test_a_bad_tracking_word_is_refused_before_anything_is_written(tmp_path, capsys):
    assert digits_lt.main([*TINY, "--tracking", "bogus"]) == 2
    assert "tracking must be auto, off or a URI" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "tiny" / "erm" / "seed0" / "config.toml").exists()


def test_server_commands():
    command = server_command("sqlite:////x/mlflow.db")
    assert "--backend-store-uri sqlite:////x/mlflow.db" in command and "MLFLOW_DISABLE_TELEMETRY=true" in command
    assert server_command("http://127.0.0.1:5000") == "open http://127.0.0.1:5000"


def test_the_log_survives_a_torn_last_line(tmp_path):
    log = JsonlLog(tmp_path / "m.jsonl")
    assert log.rows() == []
    for epoch in range(3):
        log.append({"epoch": epoch, "metrics": {"x": float("nan") if epoch else 1.0}, "per_class": {}})
    with log.path.open("a") as file:
        file.write('{"epoch": 3, "met')
    rows = log.rows()
    assert [row["epoch"] for row in rows] == [0, 1, 2] and rows[1]["metrics"]["x"] != rows[1]["metrics"]["x"]
    assert json.loads(log.path.read_text().splitlines()[1])["metrics"]["x"] is None
    assert [row["epoch"] for row in log.keep_before(2)] == [0, 1]
    assert len(log.path.read_text().splitlines()) == 2
    log.path.write_text("{broken\n" + '{"epoch": 1}\n')
    with pytest.raises(DivaugError, match="line 1 is damaged"):
        log.rows()


def test_the_comparison_of_several_methods_is_one_run_of_the_experiment(store, capsys):
    """Its page and tables are artifacts; doing it again replaces them, and a store that is off has nothing."""
    from divaug.recipes import compare

    methods = [*TINY[:-1], "erm,ros", "--epochs", "1", "--output-dir", str(store)]
    methods[methods.index("--method")] = "--methods"
    assert digits_lt.main(methods) == 0
    found = client(store).get_experiment_by_name("tiny")

    def comparisons():
        runs = client(store).search_runs([found.experiment_id], "tags.`divaug.kind` = 'comparison'")
        assert len(client(store).search_runs([found.experiment_id])) == 2 + len(runs)
        return runs

    (run,) = comparisons()
    assert run.info.run_name == "comparison" and run.info.status == "FINISHED"
    folder = RunFolder(store / "tiny" / "erm" / "seed0")
    assert run.data.tags["divaug.data"] == folder.manifest["data"] and "divaug.protocol" in run.data.tags
    files = {file.path for file in client(store).list_artifacts(run.info.run_id)}
    assert {"comparison.html", "comparison.md", "methods.csv", "contrasts.csv", "table.txt"} < files
    assert not (store / "tiny" / "erm" / "seed0" / "report").exists()
    assert compare.main([str(store / "tiny"), "--baseline", "ros"]) == 0
    (again,) = comparisons()
    assert again.info.run_id == run.info.run_id
    page = Path(client(store).download_artifacts(run.info.run_id, "comparison.html")).read_text()
    assert "Differences from ros" in page
    assert "comparison.html" in capsys.readouterr().out


def test_a_comparison_that_cannot_be_mirrored_is_complete_and_names_its_command(store, capsys, monkeypatch):
    from divaug.recipes import compare

    methods = [*TINY[:-1], "erm,ros", "--epochs", "1", "--output-dir", str(store)]
    methods[methods.index("--method")] = "--methods"
    assert digits_lt.main(methods) == 0
    capsys.readouterr()
    monkeypatch.setattr(MlflowTracker, "_open_run", lambda *a: (_ for _ in ()).throw(ConnectionError("gone")))
    assert compare.main([str(store / "tiny")]) == 0
    streams = capsys.readouterr()
    assert "tracking failed (gone)" in streams.err and "recipes.compare " in streams.err
    assert (store / "tiny" / "report" / "comparison.html").exists() and "erm" in streams.out

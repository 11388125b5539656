"""What a run is called in MLflow, and how it ends there, without a store."""

from divaug import configure
from divaug.config.tables import protocol_fingerprint
from divaug.runs.folder import RunFolder
from divaug.runs.trackers.mlflow import NoTracker
from divaug.runs.tracking import _mirror, open_tracker


def test_a_run_is_named_and_tagged_by_what_it_is(tmp_path, monkeypatch):
    config = configure(
        dataset="digits", method="cmo", seed=3, tracking="auto", output_dir=str(tmp_path), **{"mix.alpha": 0.5}
    )
    folder, made = RunFolder.of(config), {}
    folder.path.mkdir(parents=True)
    (folder.path / "manifest.json").write_text('{"data": "d1d1d1d1"}')
    monkeypatch.setattr("divaug.runs.tracking.MlflowTracker", lambda uri, **keys: made.update(keys) or NoTracker())
    open_tracker(config, folder, print)
    assert made["run_name"] == "cmo+mix.alpha=0.5/seed3" and made["experiment"] == folder.experiment
    assert made["tags"] == {"divaug.protocol": protocol_fingerprint(config), "divaug.data": "d1d1d1d1"}
    params = made["params"]
    assert (params["method"], params["seed"], params["mix"], params["mix.alpha"]) == ("cmo", 3, "cmo", 0.5)
    assert params["label"] == "cmo+mix.alpha=0.5" and made["folder"] == folder.path


def test_a_run_that_has_not_finished_is_not_mirrored_as_finished(tmp_path):
    folder, tracker = RunFolder.of(configure(dataset="digits", output_dir=str(tmp_path))), NoTracker()
    folder.path.mkdir(parents=True)
    (folder.path / "manifest.json").write_text('{"class_names": ["a"]}')
    _mirror(folder, tracker)
    assert tracker.status == "KILLED"

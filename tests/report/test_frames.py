"""Runs as DataFrames: every number is the run's own, under its own name."""

import shutil

import pandas as pd
import pytest

import divaug
from divaug.base.errors import DivaugError

KEYS = {
    "dataset": "digits", "epochs": 2, "tracking": "off", "progress": "none", "monitor": False, "model.widths": [8],
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    made = [("erm", 0), ("ros", 0), ("ros", 1)]
    return root, {
        key: divaug.run(divaug.configure(**KEYS, method=key[0], seed=key[1], vary="init", output_dir=str(root)))
        for key in made
    }


def test_one_row_per_run_has_its_final_metrics(runs):
    root, folders = runs
    table = divaug.read_runs(root)
    assert list(table.columns[:7]) == ["experiment", "protocol", "data", "method", "seed", "run", "path"]
    assert len(table) == 3 and table["protocol"].nunique() == table["data"].nunique() == 1
    for row in table.to_dict("records"):
        folder = folders[row["method"], row["seed"]]
        assert row["path"] == str(folder.path) and row["experiment"] == folder.experiment
        for name, value in folder.result.items():
            if name.startswith("final/") and value is not None:
                assert row[name.removeprefix("final/")] == value
    some = divaug.read_runs([folders["ros", 1], folders["erm", 0].path])
    assert set(zip(some["method"], some["seed"], strict=True)) == {("ros", 1), ("erm", 0)}


def test_one_row_per_run_and_class_is_the_last_epochs(runs):
    root, folders = runs
    table = divaug.read_runs(str(root), classes=True)
    assert len(table) == 30 and "epoch" not in table
    for (method, seed), folder in folders.items():
        own = table[(table["method"] == method) & (table["seed"] == seed)]
        assert own["test/recall"].tolist() == pytest.approx(folder.metrics.rows()[-1]["per_class"]["test/recall"])
        assert own["n_train"].tolist() == folder.manifest["counts"]
        whole = pd.read_parquet(folder.table)
        assert own["class_name"].tolist() == whole["class_name"].tolist()[-10:]


def test_what_is_not_finished_is_not_there(runs, tmp_path):
    root, folders = runs
    with pytest.raises(DivaugError, match="no run folder at or below"):
        divaug.read_runs(tmp_path)
    folder = folders["ros", 1]
    result = (folder.path / "result.json").read_text()
    (folder.path / "result.json").unlink()
    try:
        assert len(divaug.read_runs(root)) == 2
        with pytest.raises(DivaugError, match="no finished run"):
            divaug.read_runs(folder)
    finally:
        (folder.path / "result.json").write_text(result)


def test_an_arm_of_a_study_is_no_row_of_its_method(runs, tmp_path):
    """Its configuration is the method's: what was planted is in the images."""
    _, folders = runs
    arm = tmp_path / "fragility" / "erm_exp_patch-rare-90" / "seed0"
    shutil.copytree(folders["erm", 0].path, arm)
    assert divaug.read_runs(tmp_path)["method"].tolist() == ["erm_exp_patch-rare-90"]


def test_runs_are_shown_inline_alone_and_compared(runs, tmp_path):
    root, folders = runs
    alone = divaug.show(folders["erm", 0])
    assert list(alone.figures) == ["confusion.png", "recall.png", "taken_for.png"] and "recall %" in repr(alone)
    assert alone.figures["recall.png"] == (folders["erm", 0].figures / "recall.png").read_bytes()
    together = divaug.show(root)
    assert "Differences from erm" in repr(together) and "recall_by_class.png" in together.figures
    for shown in (alone, together):
        page = shown._repr_html_()
        assert page.count("data:image/png;base64,") == len(shown.figures)
        assert all(content.startswith(b"\x89PNG") for content in shown.figures.values())
    divaug.run(divaug.configure(**{**KEYS, "epochs": 1}, output_dir=str(tmp_path)))
    with pytest.raises(DivaugError, match="2 protocols or data sets cannot be shown together"):
        divaug.show([root, tmp_path])

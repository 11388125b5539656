from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import divaug
from divaug.recipes import digits_lt, folder_lt, posthoc
from divaug.report import results
from divaug.runs.folder import RunFolder


def test_three_phases_on_a_run(tiny, capsys, monkeypatch):
    assert digits_lt.main([*tiny, "--method", "erm", "--results", "rows.csv"]) == 0
    capsys.readouterr()
    assert posthoc.main(["runs/tiny/erm"]) == 0
    assert "new head" in capsys.readouterr().out
    folder = "runs/tiny/erm/seed0"
    table = pd.read_csv(f"{folder}/posthoc/results.csv").set_index("head")
    methods = [
        "none",
        "ros",
        "smote",
        "eos",
        "crt",
        "lws",
        "tau_norm",
        "nearest_mean",
        "linear_svm",
        "logit_adjustment",
    ]
    assert list(table.index) == ["as trained", *methods, "majority", "1-nn", "10-nn"]
    assert table.loc["majority", "bal_acc"] == pytest.approx(0.1) and np.isnan(
        table.loc["1-nn", "prior_corrected_bal_acc"]
    )
    logits = np.load(f"{folder}/test_outputs.npz")["logits"]
    predicted = table["predicted_classes"]
    assert predicted["majority"] == 1 and predicted["as trained"] == len(set(logits.argmax(1).tolist()))
    trained = torch.load(f"{folder}/checkpoints/last.pt", weights_only=True)["model"]
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    for name in methods:
        state = load_file(f"{folder}/posthoc/{name}/weights.safetensors")
        model = divaug.load(f"{folder}/posthoc/{name}")
        assert model.card["head"] == name and len(model.predict(images)) == 40
        assert all(torch.equal(state[key], trained[key]) for key in trained if not key.startswith("head"))
        assert any(not torch.equal(state[key], trained[key]) for key in ("head.weight", "head.bias"))
    counts = np.array(RunFolder(folder).manifest["counts"])
    assert table.loc["ros", "synthetic"] == (46 - counts).sum() == table.loc["smote", "synthetic"]
    fewest = table["fewest_bases"]
    assert np.isnan(fewest[["as trained", "none"]]).all()
    assert 1 <= fewest["ros"] <= counts.min() and 1 <= fewest["smote"] <= counts.min() >= fewest["eos"] >= 0
    for _ in range(2):  # the same rows again take the place of the first
        flags = ["--method", "ros,smote", "--head-epochs", "1", "--neighbours", "4", "--results", "rows.csv"]
        assert posthoc.main(["runs/tiny/erm", *flags]) == 0
    trained, row, other = results.read(Path("rows.csv")).to_dict("records")
    assert (row["method"], row["seed"], row["epochs"]) == ("erm+posthoc=ros+head-epochs=1", 0, 4)
    assert other["method"] == "erm+posthoc=smote+neighbours=4+head-epochs=1"
    assert row["protocol"] == trained["protocol"] and row["experiment"] == trained["experiment"] == "tiny"
    assert row["test_bal_acc"] == pytest.approx(np.mean([row[f"recall_{c}"] for c in range(10)]), abs=1e-4)
    again = pd.read_csv(f"{folder}/posthoc/results.csv").set_index("head")
    assert row["test_predicted_classes"] == again.loc["ros+head-epochs=1", "predicted_classes"] > 1
    added = ["ros+head-epochs=1", "smote+neighbours=4+head-epochs=1"]
    assert sorted(again.index) == sorted([*table.index, *added])  # the others' rows are kept
    assert again.loc[["eos", "ros"]].equals(table.loc[["eos", "ros"]])
    assert all(Path(f"{folder}/posthoc/{name}/model.json").exists() for name in added)
    assert posthoc.main(["runs/tiny/erm", "--method", "eso"]) == 2
    assert "unknown method 'eso'; did you mean 'eos'" in capsys.readouterr().err
    assert posthoc.main(["runs/tiny/erm", "--head-epochs", "0"]) == 2
    assert posthoc.main(["nowhere"]) == 1

    with monkeypatch.context() as patch:  # embeddings in which every image is its own neighbour: no enemies anywhere
        patch.setattr("divaug.posthoc._oversample._nearest", lambda features, k: np.arange(len(features))[:, None])
        assert posthoc.main(["runs/tiny/erm", "--method", "eos", "--head-epochs", "1", "--neighbours", "7"]) == 0
    out = capsys.readouterr().out
    for c in np.flatnonzero(counts < 46):
        assert f"eos: class '{c}' got no synthetic embeddings: none of its {counts[c]} images has one of another" in out
    assert out.count("among its 7 nearest neighbours; more --neighbours") == (counts < 46).sum() > 5
    row = pd.read_csv(f"{folder}/posthoc/results.csv").set_index("head").loc["eos+neighbours=7+head-epochs=1"]
    assert row["synthetic"] == row["fewest_bases"] == 0


def test_tau_is_chosen_on_the_runs_validation_part(tiny, capsys):
    assert digits_lt.main([*tiny, "--method", "erm", "--val-frac", "0.2"]) == 0
    assert posthoc.main(["runs/tiny/erm", "--method", "tau_norm"]) == 0
    assert "chosen on the validation part" in capsys.readouterr().out


def test_methods_that_need_a_linear_head_are_left_out_of_a_run_with_another(tiny, capsys):
    """The row stays empty in the table, is no row of --results, and the others are there."""
    assert digits_lt.main([*tiny, "--method", "ldam", "--results", "rows.csv"]) == 0
    assert posthoc.main(["runs/tiny/ldam", "--method", "tau_norm,crt,nearest_mean", "--results", "rows.csv"]) == 0
    said = capsys.readouterr().out
    assert "tau_norm: left out: tau_norm changes the weights of a linear head, and this is a CosineHead" in said
    rows = [row["method"] for row in results.read(Path("rows.csv")).to_dict("records")]
    assert rows == ["ldam", "ldam+posthoc=crt", "ldam+posthoc=nearest_mean"]
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    for name in ("crt", "nearest_mean"):  # a cosine head, and a linear one in its place
        assert len(divaug.load(f"runs/tiny/ldam/seed0/posthoc/{name}").predict(images)) == 5


def test_a_method_of_ones_own_comes_with_its_file(tiny, capsys):
    Path("mine.py").write_text(
        'from divaug import POSTHOC\n\n\n@POSTHOC.register(\'as_it_is\')\nclass Same:\n    """The same head again."""\n\n'
        "    notes = ()\n\n    def fit(self, embeddings, head, rng):\n        import copy\n\n        return copy.deepcopy(head)\n"
    )
    assert digits_lt.main([*tiny, "--method", "erm"]) == 0
    assert posthoc.main(["runs/tiny/erm", "--method", "as_it_is", "--import", "mine.py"]) == 0
    assert capsys.readouterr().out.count("as_it_is") >= 1
    table = pd.read_csv("runs/tiny/erm/seed0/posthoc/results.csv").set_index("head")
    assert table.loc["as_it_is", "bal_acc"] == table.loc["as trained", "bal_acc"]


def test_a_method_of_ones_own_keeps_its_defaults_and_its_rows_what_is_known_of_the_run(tiny, capsys):
    Path("noted.py").write_text(
        'from divaug import POSTHOC\n\n\n@POSTHOC.register(\'noted\')\nclass Noted:\n    """The head again."""\n\n'
        "    def __init__(self, *, epochs: int = 50, lr: float = 0.01):\n        self.notes = (f'{epochs} at {lr}',)\n\n"
        "    def fit(self, embeddings, head, rng):\n        import copy\n\n        return copy.deepcopy(head)\n"
    )
    keys = ["--method", "erm", "--vary", "init", "--import", "noted.py", "--results", "rows.csv"]
    assert digits_lt.main([*tiny, *keys]) == 0
    command = ["runs/tiny/erm", "--method", "noted", "--import", "noted.py", "--results", "rows.csv"]
    capsys.readouterr()
    assert posthoc.main(command) == 0 and "50 at 0.01" in capsys.readouterr().out
    assert posthoc.main([*command, "--head-epochs", "10"]) == 0 and "10 at 0.01" in capsys.readouterr().out
    rows = pd.read_csv("rows.csv").set_index("method")
    assert list(rows.index) == ["erm", "erm+posthoc=noted", "erm+posthoc=noted+head-epochs=10"]
    for told in ("vary", "preset", "precision", "epochs", "protocol", "code", "version", "test_part", "train_part"):
        assert rows[told].nunique() == 1 and rows[told].notna().all(), told
    assert posthoc.main([*command, "--head-epochs", "50"]) == 0  # its default: no other method
    assert len(pd.read_csv("rows.csv")) == 3


@pytest.mark.usefixtures("no_figures")
def test_a_run_whose_images_changed_is_not_given_new_heads(pictures, capsys):
    small = ("--image-size", "12", "--epochs", "1", "--model.widths", "[8]", "--top-k", "4", "--method", "erm")
    where = ("--tracking", "off", "--progress", "none", "--experiment", "tiny")
    assert folder_lt.main([str(pictures / "cells.csv"), *small, *where]) == 0
    assert posthoc.main(["runs/tiny", "--method", "nearest_mean"]) == 0
    file = pictures / "cells.csv"
    file.write_text(file.read_text().replace("bright/3.png,bright", "bright/3.png,dark"))
    capsys.readouterr()
    assert posthoc.main(["runs/tiny", "--method", "ros"]) == 3
    assert "was made with other data: images, labels or groups of the data set differ" in capsys.readouterr().err


def test_options_that_no_method_has_are_refused(capsys):
    assert posthoc.main(["nowhere", "--method", "tau_norm", "--head-epochs", "50"]) == 2
    assert "--head-epochs has no effect on tau_norm" in capsys.readouterr().err
    assert posthoc.main(["nowhere", "--method", "tau_norm,ros", "--head-epochs", "50"]) == 1  # ros has it; no run there

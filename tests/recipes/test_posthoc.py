from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from divaug import results
from divaug.recipes import digits_lt, posthoc
from divaug.runfolder import RunFolder


def test_three_phases_on_a_run(tiny, capsys):
    assert digits_lt.main([*tiny, "--method", "erm", "--results", "rows.csv"]) == 0
    capsys.readouterr()
    assert posthoc.main(["runs/tiny/erm", "--head-epochs", "3"]) == 0
    assert "new head" in capsys.readouterr().out
    folder = "runs/tiny/erm/seed0"
    table = pd.read_csv(f"{folder}/posthoc/results.csv").set_index("head")
    assert list(table.index) == ["as trained", "none", "ros", "smote", "eos"]
    trained = torch.load(f"{folder}/checkpoints/last.pt", weights_only=True)["model"]
    for name in ("none", "ros", "smote", "eos"):
        state = torch.load(f"{folder}/posthoc/{name}.pt", weights_only=True)
        assert all(torch.equal(state[key], trained[key]) for key in trained if not key.startswith("head"))
        assert not torch.equal(state["head.weight"], trained["head.weight"])
    counts = np.array(RunFolder(folder).manifest["counts"])
    assert table.loc["ros", "synthetic"] == (46 - counts).sum() == table.loc["smote", "synthetic"]
    for _ in range(2):  # the same rows again take the place of the first
        flags = ["--method", "ros", "--head-epochs", "1", "--results", "rows.csv"]
        assert posthoc.main(["runs/tiny/erm", *flags]) == 0
    trained, row = results.read(Path("rows.csv")).to_dict("records")
    assert (row["method"], row["seed"], row["epochs"]) == ("erm+posthoc=ros", 0, 4)
    assert row["protocol"] == trained["protocol"] and row["experiment"] == trained["experiment"] == "tiny"
    assert row["test_bal_acc"] == pytest.approx(np.mean([row[f"recall_{c}"] for c in range(10)]), abs=1e-4)
    again = pd.read_csv(f"{folder}/posthoc/results.csv").set_index("head")
    assert sorted(again.index) == sorted(table.index)  # the others' rows are kept
    assert again.loc["eos"].equals(table.loc["eos"]) and not again.loc["ros"].equals(table.loc["ros"])
    assert posthoc.main(["runs/tiny/erm", "--method", "eso"]) == 2
    assert "unknown method 'eso'; did you mean 'eos'" in capsys.readouterr().err
    assert posthoc.main(["runs/tiny/erm", "--head-epochs", "0"]) == 2
    assert posthoc.main(["nowhere"]) == 1

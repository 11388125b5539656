from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from divaug.recipes import digits_lt, fragility


@pytest.mark.usefixtures("store")  # an empty one: making its tables takes seconds
def test_the_recipe_from_start_to_report(capsys, monkeypatch):
    monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})  # a second a run
    argv = ["--smoke", "--seed", "0", "--methods", "erm", "--epochs", "1", "--model.widths", "[24]", "--quiet"]
    assert fragility.main(argv) == 0
    out = capsys.readouterr().out
    assert out.count("not measurable") == 6 and "report.html" in out  # one epoch: nothing is learned
    (folder,) = Path("runs/fragility").iterdir()
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "http" not in page.replace("http-equiv", "")
    assert "| claim |" in (folder / "report.md").read_text()
    assert {"evidence.csv", "verdicts.csv", "effects.png", "masking.png", "patches.png"} <= {
        p.name for p in folder.iterdir()
    }
    (logged,) = MlflowClient("sqlite:///runs/mlflow.db").search_runs(["1"])
    assert logged.info.status == "FINISHED" and logged.info.run_name == folder.name
    assert fragility.main(argv) == 0  # the same again: its run is found, and stays finished
    assert "tracking failed" not in capsys.readouterr().err
    (logged,) = MlflowClient("sqlite:///runs/mlflow.db").search_runs(["1"])
    assert logged.info.status == "FINISHED" and {"C1/effective_matched"} <= {*logged.data.tags}
    other = folder / "verdicts.csv"
    other.rename("other.csv")
    assert fragility.main([*argv, "--tracking", "off", "--beside", "other.csv"]) == 0
    text = (folder / "report.md").read_text()
    assert "## All data sets" in text and text.count("| digits | C0 |") == 2
    Path("wrong.csv").write_text("a,b\n1,2\n")
    for wrong in ("wrong.csv", "nowhere.csv"):
        assert fragility.main([*argv, "--beside", wrong]) == 3
    capsys.readouterr()
    assert fragility.main([*argv, "--dry-run"]) == 0
    assert "erm_exp_patch-rare-90" in capsys.readouterr().out


@pytest.mark.usefixtures("no_figures")
def test_the_recipe_on_finished_runs(tiny, capsys):
    assert digits_lt.main([*tiny, "--method", "erm"]) == 0
    latent = Path("runs/tiny/erm/seed0/latent")
    assert fragility.main(["runs/tiny/erm", "--class", "none"]) == 1
    assert "no class is named 'none'" in capsys.readouterr().err and not latent.exists()
    assert fragility.main(["runs/tiny/erm/seed0/checkpoints/last.pt", "--class", "3"]) == 0
    page = (latent / "latent_report.html").read_text()
    assert page.count("data:image/png") == 7 and "authors" in page
    assert {"card_3.png", "gap.png", "statistics.csv", "embeddings"} <= {p.name for p in latent.iterdir()}
    assert fragility.main(["nowhere"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "step"], "--profile has no effect on the study"),
        (["--split-seed=5"], "--split-seed has no effect on the study"),
        (["--class", "3"], "--class has no effect on the study"),
        (["--evidence", "gone.csv"], "--evidence gone.csv: there is no such file"),
        (["--extra-train", "more.csv"], "--extra-train has no place in the study"),
        (["--monitor-at", "0,1"], "--monitor-at has no effect on the study"),
        (["runs/x", "--no-patches"], "--no-patches has no effect on finished runs"),
        (["runs/x", "--top-k", "20"], "--smoke has no effect on finished runs"),
        (["runs/x", "--epochs=3"], "--epochs has no effect on finished runs"),
    ],
)
def test_what_has_no_effect_is_refused(arguments, said, capsys):
    Path("more.csv").write_text("path,label\n")
    assert fragility.main([*arguments, "--smoke"]) == 2
    assert said in capsys.readouterr().err and not Path("runs").exists()


def test_seeds_may_be_given_with_an_equals_sign(capsys):
    for arguments in (["--seeds=1-2"], ["--seeds", "1-2"]):
        assert fragility.main(["--methods", "erm", *arguments, "--print-config"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert [line for line in out if line.startswith("seed =")] == ["seed = 1", "seed = 2"]
    assert fragility.main(["--methods", "erm", "--seed=3", "--dry-run"]) == 0
    assert "erm_exp" in capsys.readouterr().out and not Path("runs").exists()

import re

import pandas as pd
import pytest

from divaug.recipes.study import main


def test_the_whole_study_in_miniature(tmp_path, capsys):
    assert main(["run", "--smoke", "--output-dir", str(tmp_path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"digits/longtailed +16 +16 +0", out) and re.search(r"digits/longtailed/twice +4 +4 +0", out)
    assert "digits longtailed: " in out and "report: " in out
    folder = tmp_path / "smoke"
    rows = pd.read_csv(folder / "results" / "digits" / "runs.csv")
    assert len(rows) == 20 and set(rows["status"]) == {"ok"}
    assert {"report.md", "report.html", "phi.png", "design.png", "factorial.png", "sides.png"} <= {
        path.name for path in (folder / "digits").iterdir()
    }
    plan = str(folder / "digits.toml")
    assert main(["status", plan]) == 0
    assert "0.0" in capsys.readouterr().out
    assert main(["report", plan, "--design", "digits/longtailed"]) == 2
    assert "no effect on report" in capsys.readouterr().err
    assert main(["run", plan, "--design", "digits/longtail"]) == 2
    assert "no design 'digits/longtail'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name a preregistration, or give --smoke"),
        (["run", "--smoke", "x.toml"], "name a preregistration, or give --smoke"),
        (["rum", "x.toml"], "invalid choice: 'rum'"),
        (["status", "none.toml"], "cannot read none.toml"),
        (["run", "x.toml", "--job", "2"], "--job"),
    ],
)
def test_what_is_wrong_is_said(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err

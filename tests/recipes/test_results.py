import pandas as pd
import pytest

from divaug import results
from divaug.errors import DivaugError
from divaug.recipes import compare, digits_lt
from divaug.runfolder import find_runs


def test_finished_runs_are_known_by_their_rows(tiny, tmp_path, capsys):
    rows = tmp_path / "kept" / "rows.csv"
    flags = [*tiny, "--methods", "erm,ros", "--epochs", "1", "--results", str(rows)]
    assert digits_lt.main([*flags, "--seed", "0"]) == 0
    table = pd.read_csv(rows)
    assert table["method"].tolist() == ["erm", "ros"] and table["seed"].tolist() == [0, 0]
    (first, *_) = find_runs(["runs"])
    assert table["test_bal_acc"][0] == pytest.approx(first.result["final/test_bal_acc"], rel=1e-4)
    recall = first.metrics.rows()[-1]["per_class"]["test/recall"]
    assert table["recall_3"][0] == pytest.approx(recall[3], rel=1e-4)

    lines = [a if a != "none" else "lines" for a in flags]
    assert digits_lt.main([*lines, "--seeds", "0,1", "--experiment", "elsewhere"]) == 0  # folders gone, rows there
    assert capsys.readouterr().err.count("its row is in") == 2
    assert len(pd.read_csv(rows)) == 4 and len(find_runs(["runs/elsewhere"])) == 2
    assert digits_lt.main([*flags, "--seed", "0", "--lr", "0.01", "--experiment", "third"]) == 0  # another protocol
    assert len(pd.read_csv(rows)) == 6

    capsys.readouterr()
    assert compare.main([str(rows)]) == 0
    out = capsys.readouterr().out
    assert (
        "mean ± sd over seeds" in out
        and "top-K CE tail m=5" in out
        and sum(" erm " in line for line in out.splitlines()[2:]) == 3
    )


def test_a_file_that_holds_no_results(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        DivaugError, match=r"x.csv holds no results: it lacks experiment, protocol, method, seed, epochs"
    ):
        results.read(tmp_path / "x.csv")

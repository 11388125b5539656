import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import divaug
from divaug.base.errors import DivaugError
from divaug.recipes import compare, digits_lt, folder_lt
from divaug.report import results
from divaug.runs.folder import find_runs


def test_a_row_belongs_to_the_method_with_its_options():
    config = divaug.configure(dataset="digits", method="cmo", seed=3, epochs=2, **{"mix.alpha": 0.5})
    key = results.key_of(config, "d1d1d1d1")
    assert (key["method"], key["seed"], key["data"]) == ("cmo+mix.alpha=0.5", 3, "d1d1d1d1")


@pytest.mark.usefixtures("no_figures")
def test_finished_runs_are_known_by_their_rows(tiny, tmp_path, capsys):
    rows = tmp_path / "kept" / "rows.csv"
    flags = [*tiny, "--methods", "erm,ros", "--epochs", "2", "--results", str(rows)]
    assert digits_lt.main([*flags, "--seed", "0"]) == 0
    table = pd.read_csv(rows)
    assert table["method"].tolist() == ["erm", "ros"] and table["seed"].tolist() == [0, 0]
    (first, *_) = find_runs(["runs"])
    assert table["test_bal_acc"][0] == pytest.approx(first.result["final/test_bal_acc"], rel=1e-4)
    recall = first.metrics.rows()[-1]["per_class"]["test/recall"]
    assert table["recall_3"][0] == pytest.approx(recall[3], rel=1e-4)

    lines = [a if a != "none" else "lines" for a in flags]
    assert digits_lt.main([*lines, "--seeds", "0,1", "--experiment", "elsewhere"]) == 0  # folders gone, rows there
    said = capsys.readouterr()
    assert said.err.count("its row is in") == 2
    assert f"2 of these runs are rows of {rows} without a folder here" in said.out and "divaug compare" in said.out
    assert len(pd.read_csv(rows)) == 4 and len(find_runs(["runs/elsewhere"])) == 2
    assert digits_lt.main([*flags, "--seed", "0", "--lr", "0.01", "--experiment", "third"]) == 0  # another protocol
    assert len(pd.read_csv(rows)) == 6

    whole = pd.read_csv(rows)
    assert set(whole["data"]) == {first.manifest["data"]} and set(whole["vary"]) == {"cut"}
    assert whole["precision"].isin(["bf16", "fp32"]).all()
    whole.assign(data="0therdat").to_csv(rows, index=False)  # rows made with other images are no finished work
    assert digits_lt.main([*lines, "--seed", "0", "--experiment", "fourth"]) == 0
    assert "its row is in" not in capsys.readouterr().err and len(pd.read_csv(rows)) == 8
    whole.to_csv(rows, index=False)
    parts = tmp_path / "one.csv", tmp_path / "two.csv"  # of two machines
    for part, chosen in zip(parts, (whole["method"] == "erm", whole["method"] != "erm"), strict=True):
        whole[chosen].to_csv(part, index=False)
    assert compare.main([*map(str, parts)]) == 0
    both = capsys.readouterr().out
    assert both.count("Differences from erm") == both.count("mean ± sd over seeds") == 3  # no method stands alone
    assert compare.main([str(parts[0]), str(rows)]) == 1
    assert "is there twice; name one file of it" in capsys.readouterr().err
    assert compare.main([str(rows)]) == 0
    out = capsys.readouterr().out
    assert (
        "mean ± sd over seeds" in out
        and "top-K tail m=5" in out
        and sum(line.startswith("erm ") for line in out.splitlines()) == 3
    )


@pytest.mark.usefixtures("no_figures")
def test_comparisons_of_protocols_lie_apart_and_a_run_counts_once(tiny, capsys):
    for epochs in ("1", "2"):
        flags = [*tiny, "--experiment", f"epochs{epochs}", "--epochs", epochs]
        at = flags.index("--imbalance-factor")
        del flags[at : at + 2]
        assert (
            digits_lt.main([*flags, "--methods", "ros,erm", "--profile", "custom", "--counts", ",".join("9" * 10)]) == 0
        )
    capsys.readouterr()
    assert compare.main(["runs", "--report", "out"]) == 0
    out = capsys.readouterr().out
    assert len(list(Path("out").glob("*/table.txt"))) == len(list(Path("out").iterdir())) == 2
    assert "Differences from erm" in out and "imbalance factor" not in out
    shutil.copytree("runs/epochs1/erm/seed0", "runs/copy/erm/seed0")
    assert compare.main(["runs"]) == 1
    assert "are one run twice, or two runs of one seed; name one" in capsys.readouterr().err


OWN = """
from divaug.config.registry import PIXEL

@PIXEL.register("darker_{0}")
class Darker:
    def sample(self, labels, size, rng):
        return None

    def apply_one(self, image, plan, i):
        return image // {1}
"""


@pytest.mark.usefixtures("no_figures")
def test_rows_of_other_code_are_no_finished_work_and_no_one_method(tiny, tmp_path, capsys):
    file, rows = tmp_path / "own_code.py", tmp_path / "rows.csv"
    flags = [*tiny, "--pixel", "darker_x", "--import", str(file), "--results", str(rows)]
    flags = [a if a != "none" else "lines" for a in flags]
    for factor, seed, name in ((2, 0, "first"), (2, 1, "first"), (3, 2, "second")):
        copy = tmp_path / name / "own_code.py"  # under one name, as an edited file is in another process
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(OWN.format("x", factor))
        file.write_text(copy.read_text())
        code = f"import sys; from divaug.recipes.digits_lt import main; sys.exit(main({[*map(str, flags)]!r} + sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, "--seed", str(seed)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    table = results.read(rows)
    assert table["code"].nunique() == 2 and table["code"].str.fullmatch("[0-9a-f]{8}").all()
    again = subprocess.run([sys.executable, "-c", code, "--seed", "0"], capture_output=True, text=True, check=False)
    assert (
        again.returncode == 2 and "own_code.py has changed since this run began" in again.stderr
    )  # not "its row is in"
    for source in ("runs", str(rows)):
        assert compare.main([source]) == 0
        assert "NOT ONE METHOD: between runs of erm+pixel=darker_x" in capsys.readouterr().out


def test_whole_numbers_stay_whole_where_a_row_lacks_them(tmp_path):
    """One row without a count makes floats of all; five digits would round them, and for good."""
    key = {"experiment": "e", "protocol": "p", "data": "d", "method": "erm"}
    for seed, more in enumerate(({"trained_parameters": 464154, "seconds": 1234567.8}, {}, {"trained_parameters": 12})):
        results.append(tmp_path / "rows.csv", {**key, "seed": seed, "test_acc": 0.123456789, **more})
    table = results.read(tmp_path / "rows.csv")
    assert table["trained_parameters"].tolist()[::2] == [464154, 12] and table["trained_parameters"].isna().sum() == 1
    assert table["test_acc"].tolist() == [0.12346] * 3 and table["seconds"].iloc[0] == 1234600


def test_rows_of_nothing_and_impossible_shares_are_refused(tmp_path):
    row = "e,p,d,cmo ,{seed},{share},{recall}\n"
    file, head = tmp_path / "rows.csv", "experiment,protocol,data,method,seed,test_bal_acc,recall_cat\n"
    file.write_text(head + row.format(seed=0, share=0.5, recall="") + row.format(seed=1, share=1, recall="nan"))
    assert results.read(file)["method"].tolist() == ["cmo", "cmo"]  # a blank makes no other method
    for line, said in (
        (row.format(seed="", share=0.5, recall=0), "row 3: seed is empty"),
        (",p,d,cmo,1,0.5,0\n", "row 3: experiment is empty"),
        ("e, ,d,cmo,1,0.5,0\n", "row 3: protocol is empty"),
        ("e,p,,cmo,1,0.5,0\n", "row 3: data is empty"),
        ("e,p,d,,1,0.5,0\n", "row 3: method is empty"),
        (
            row.format(seed=1, share=61.5, recall=0),
            r"row 3: test_bal_acc must be a share from 0 to 1, or empty, got 61\.5",
        ),
        (row.format(seed=1, share="inf", recall=0), "row 3: test_bal_acc must be a share"),
        (
            row.format(seed=1, share=0.5, recall=-0.1),
            r"row 3: recall_cat must be a share from 0 to 1, or empty, got -0\.1",
        ),
        (
            row.format(seed=1, share=0.5, recall="n/a"),
            "row 3: recall_cat must be a share from 0 to 1, or empty, got n/a",
        ),
    ):
        file.write_text(head + row.format(seed=0, share=0.5, recall=0.5) + line)
        with pytest.raises(DivaugError, match=said):
            results.read(file)


def test_a_file_that_holds_no_results(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DivaugError, match=r"x.csv holds no results: it lacks experiment, protocol, data, method, seed"):
        results.read(tmp_path / "x.csv")


@pytest.mark.usefixtures("no_figures")
def test_rows_of_own_images_at_their_default_size_are_known(tmp_path, capsys):
    for c, name in enumerate("ab"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng([c, i]).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / name / f"{i}.png")
    flags = [
        "own",
        "--method",
        "erm",
        "--tracking",
        "off",
        "--progress",
        "lines",
        "--results",
        "rows.csv",
        "--no-monitor",
    ]
    flags += ["--min-steps", "40", "--model.widths", "[8, 8]"]  # fast has 32 epochs
    assert folder_lt.main([*flags, "--output-dir", "one"]) == 0
    (run,) = find_runs(["one"])
    (row,) = results.read(Path("rows.csv")).to_dict("records")
    assert row["experiment"] == run.experiment and row["epochs"] == run.config.epochs == 40
    capsys.readouterr()
    assert folder_lt.main([*flags, "--output-dir", "two"]) == 0
    assert "its row is in rows.csv" in capsys.readouterr().err and not Path("two").exists()

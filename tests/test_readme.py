"""Every code block of the README runs as written."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from divaug import __main__ as recipes_main
from divaug.base.stats import t_interval
from divaug.report import results
from divaug.report.contrasts import contrasts

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
CONSOLE = [
    re.sub(r"^divaug (?=\w)", "python -m divaug.recipes.", line.split("#")[0].strip())  # the same: see tests/config
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.strip().splitlines()
]


def test_the_blocks_are_all_there():
    assert (len(PYTHON), len(CONSOLE)) == (4, 39)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_from_python():
    assert 0 <= float(run(PYTHON[0])) <= 1


def test_measuring_a_network(tmp_path):
    out = run(PYTHON[3])
    assert "rarefied_5" in out and Path("bundle.npz").exists() and Path("bundle.json").exists()


def test_a_custom_augmentation_of_ten_lines(tmp_path, capsys):
    from divaug.recipes import check, digits_lt

    body = [line for line in PYTHON[2].splitlines() if line and not line.startswith(("#", "from"))]
    assert len(body) <= 10
    (tmp_path / "my_augs.py").write_text(PYTHON[2])
    train, checked = [shlex.split(line)[3:] for line in CONSOLE if "my_augs" in line]
    assert digits_lt.main([*train, "--smoke", "--tracking", "off", "--progress", "none"]) == 0
    assert "erm+pixel=darken_tail+pixel.rate=0.25" in capsys.readouterr().out
    assert check.main(checked) == 0
    assert "pixel/darken_tail" in capsys.readouterr().out


def test_a_plain_loop_of_fifteen_lines():
    code = PYTHON[1]
    loop = [line for line in code.splitlines() if line and not line.startswith(("import", "from", "print"))]
    assert len(loop) <= 15
    assert run(code).startswith("[")


CHAIN = CONSOLE[:5]  # each needs what the one before it has written


def test_from_a_table_of_images_to_predictions(tmp_path, capsys):
    """The commands as printed, on images of two classes; training is shortened."""
    rows = []
    for c, name in enumerate(("eosinophil", "neutrophil")):
        for i in range(48):
            Image.new("RGB", (32, 32), (100 * c + i, 40, 90 - c)).save(f"{name}{i}.png")
            rows.append(f"{name}{i}.png,{name}")
    Path("cells.csv").write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    Path("new_images").mkdir()
    Image.new("RGB", (32, 32), (110, 40, 90)).save("new_images/new.png")
    ran = []
    for line in CHAIN:
        _, _, module, *argv = shlex.split(line)
        ran.append(module.rsplit(".", 1)[-1])
        short = ["--epochs", "2", "--folds", "2", "--methods", "erm,ros", "--model.widths", "[4]", "--quiet"]
        assert importlib.import_module(module).main([*argv, *(short if ran[-1] == "train" else [])]) == 0
    assert ran == ["audit", "train", "threshold", "predict", "export"]
    assert "eosinophil" in capsys.readouterr().out
    assert len(pd.read_csv("predictions.csv")) == 1 and Path("models/cells/model.onnx").exists()


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in CONSOLE
        if line.startswith("python") and "my_augs" not in line and line not in CHAIN and ".compare" not in line
    ],
)
def test_commands_mean_what_they_say(line, monkeypatch, capsys):
    _, _, module, *argv = shlex.split(line)
    if module.endswith(".audit"):
        for c, name in enumerate(("cat", "dog")):
            Path("my_images", name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (32, 32), (c, i, 0)).save(f"my_images/{name}/{i}.png")
    elif module.endswith(".study"):
        shutil.copytree(ROOT / "recipes" / "study", "recipes/study", ignore=shutil.ignore_patterns("*.lock"))
    elif "--list" not in argv and "--describe" not in argv:
        argv.append("--dry-run")
    monkeypatch.setattr(sys, "argv", ["divaug", module.rsplit(".", 1)[1], *argv])
    assert recipes_main.main() == 0
    assert capsys.readouterr().out


def test_the_comparison_is_of_the_experiment_with_what_is_asked(monkeypatch):
    from divaug.recipes import compare as recipe
    from divaug.report.compare import Asked

    (line,) = [line for line in CONSOLE if ".compare" in line]
    Path("runs/cifar10-exp100-fast").mkdir(parents=True)
    seen = {}
    monkeypatch.setattr("divaug.runs.folder.find_runs", lambda paths: seen.update(paths=paths) or [])
    monkeypatch.setattr("divaug.report.compare.compare", lambda runs, asked: seen.update(asked=asked) or [])
    assert recipe.main(shlex.split(line)[3:]) == 0
    assert seen == {"paths": ["runs/cifar10-exp100-fast"], "asked": Asked("ros", ("cmo", "cutmix"), 0.5)}


def test_guides_run_too(tmp_path):
    """Code of the site's guides: the tutorial runs when the site is built; these are compiled or run here."""
    quick = re.findall(r"```python\n(.*?)```", (ROOT / "docs/quickstart.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(quick) == 1 and "0" in run(quick[0])
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/your_own_loop.md").read_text(encoding="utf-8"), re.DOTALL
    ):
        compile(block, "your_own_loop", "exec")
    own = (ROOT / "docs/your_own_augmentation.md").read_text(encoding="utf-8")
    assert re.findall(r"```python\n(.*?)```", own, re.DOTALL)[0] == PYTHON[2]


@pytest.mark.parametrize(("at", "name"), [(1, "lower_half"), (2, "tail_margin")])
def test_a_component_of_the_guide_keeps_its_contract_and_trains(at, name, capsys):
    from divaug.recipes import check, digits_lt

    own = (ROOT / "docs/your_own_augmentation.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", own, re.DOTALL)[at]
    Path(code.splitlines()[0].removeprefix("# ")).write_text(code)
    checked, train = [
        shlex.split(line)[3:] for line in own.splitlines() if line.startswith("python -m") and name in line
    ]
    assert check.main(checked) == 0
    assert digits_lt.main([*train, "--smoke", "--tracking", "off", "--progress", "none"]) == 0
    assert name in capsys.readouterr().out


def test_the_figures_rows_are_what_the_text_says():
    """Eleven of the other fifteen methods within a point of erm once priors are corrected."""
    rows = pd.read_csv(ROOT / "recipes/augmentation/cifar10.csv")
    rows = rows[(rows["epochs"] == 40) & ~rows["method"].str.contains("posthoc")]
    first = rows["encoder"] == "cifar10-b-58fbff23.pt"
    rows = pd.concat([rows[first], rows[~first]]).drop_duplicates(["method", "seed"])
    means = 100 * rows.groupby("method")["test_prior_corrected_bal_acc"].mean()
    others = means.drop("erm")
    assert len(others) == 15 and ((others - means["erm"]).abs() < 1).sum() == 11
    assert "eleven of the other fifteen methods have means within a point" in TEXT


def test_the_table_of_digits_is_what_the_rows_say():
    rows = results.read(ROOT / "recipes/methods/digits.csv")
    text = " ".join(TEXT.split())
    (parameters,) = rows.loc[rows["method"] == "erm", "trained_parameters"].unique()
    (epochs,) = rows["epochs"].unique()
    assert (
        f"preset `fast` ({parameters:,} trained parameters, {epochs} epochs;" in text
        and rows["protocol"].nunique() == 1
    )
    columns = (
        "test_bal_acc", "test_prior_corrected_bal_acc", "test_acc_head", "test_acc_tail", "test_worst_class_acc",
        "train_clean_rarefied_4_tail",
    )  # fmt: skip
    table = {}
    for method in ("erm", "ros", "ldam_drw", "cmo"):
        own = rows[rows["method"] == method].sort_values("seed")
        assert own["seed"].tolist() == list(range(10))
        cells = []
        for column in columns:
            values = own[column] * (1 if "rarefied" in column else 100)
            cells.append(f"{values.mean():.1f} ± {values.std():.1f}")
        assert f"| {' | '.join([method, *cells])} |" in TEXT
        table[method] = 100 * own["test_prior_corrected_bal_acc"].to_numpy()
    found = contrasts(rows, baseline="erm").set_index(["metric", "method"])
    for method, said, verdict in (
        ("cmo", "`cmo` is ahead by {0} points", "better"), ("ros", "`ros`, {0}, is within a point of it", "within"),
        ("ldam_drw", "for `ldam_drw`, {0}, these runs cannot tell", "these runs cannot tell"),
    ):  # fmt: skip
        row, gain = found.loc[("test_prior_corrected_bal_acc", method)], (table[method] - table["erm"]).tolist()
        low, high = t_interval(gain)
        assert said.format(f"{sum(gain) / 10:.1f} [{low:.1f}, {high:.1f}]") in text
        assert row["verdict"].startswith(verdict)
        if method == "ros":
            assert f"within a point of it (corrected p {row['p_equivalence_holm']:.4f}, so only just)" in text


def test_the_answer_is_what_the_rows_say():
    """README's numbers of the study, from its committed contrasts."""
    text = " ".join(TEXT.split())
    rows = {}
    for dataset in ("cifar10", "fashion_mnist"):
        table = pd.read_csv(ROOT / f"recipes/study/results/{dataset}/contrasts.csv")
        for design, of_design in table.groupby("design"):
            rows[dataset, design] = of_design.set_index("contrast")
    one, two = rows["cifar10", "longtailed"], rows["fashion_mnist", "longtailed"]
    span = "{0:.1f} [{1:.1f}, {2:.1f}]"
    fine = "{0:.2f} [{1:.2f}, {2:.2f}]"

    def said(pattern, table, name):
        return pattern.format(*table.loc[name, ["effect", "lo", "hi"]])

    points = "{0:.1f} points of its prior-corrected recall [{1:.1f}, {2:.1f}]"
    for expected in (
        f"costs {said(points, one, 'breadth')} on CIFAR-10 and {said(span, two, 'breadth')} on Fashion-MNIST",
        f"exposure included, {said(span, one, 'number')} and {said(span, two, 'number')}.",
        f"Kinds are {said(fine, one, 'phi')} and {said(fine, two, 'phi')} of both together",
        f"top-K FE ({said(fine, one, 'breadth, topk_fe_heldout')} and {said(fine, two, 'breadth, topk_fe_heldout')})",
        f"the share is {said(fine, rows['cifar10', 'balanced'], 'phi')} on CIFAR-10",
        f"has no detectable effect ({said(span, rows['cifar10', 'balanced'], 'twice - once (a control: 0)')})",
        f"each worth {said(fine, one, 'transfer to kept kinds')} of one of their own",
        f"no help is detectable ({said(fine, two, 'transfer to kept kinds')})",
        f"over {one.loc['phi', 'n']} and {two.loc['phi', 'n']} pairs of new cuts",
    ):
        assert expected in text, expected
    for table, word in ((one, "matters, less than number"), (two, "comparable with number")):
        assert (
            table.loc["phi", "verdict"].startswith(word) and "latent diversity not shown" in table.loc["phi", "verdict"]
        )
    assert "on long-tailed CIFAR-10 it matters, less than number; on long-tailed Fashion-MNIST it is comparable" in text
    for table in (one, two):  # no detectable change
        low, high = table.loc["breadth, topk_ce_heldout", ["lo", "hi"]]
        assert low < 0 < high


def test_what_pretrained_weights_gave_is_what_the_rows_say():
    rows = pd.read_csv(ROOT / "benchmarks/results/transfer.csv")
    wide = 100 * rows[rows["steps"] == 1000].pivot_table(index="split", columns="arm", values="mean_recall")
    text = " ".join(TEXT.split())
    assert len(wide) == 8 and "eight grouped splits" in text
    for arm, said in (("full", "gave {0:.1f} points of mean recall over a start from scratch [{1:.1f}, {2:.1f}]"),
                      ("head", "a new head alone {0:.1f} [{1:.1f}, {2:.1f}]")):  # fmt: skip
        gain = (wide[arm] - wide["scratch"]).tolist()
        assert said.format(sum(gain) / len(gain), *t_interval(gain)) in text


def test_how_often_a_promise_was_kept_is_what_the_rows_say():
    every = pd.read_csv(ROOT / "benchmarks/results/promise.csv")
    allowed = every[every["allowed"]]
    rows, other = (allowed[allowed["counted"] == counted] for counted in ("by groups", "independent"))
    same = ["split", "class", "found", "false"]
    assert rows[same].to_numpy().tolist() == other[same].to_numpy().tolist()  # the same thresholds
    kept = (rows["found"] / rows["held_out"] >= 0.9).sum()
    text = " ".join(TEXT.split())
    held = (rows["found"] / rows["held_out"] >= 0.9).groupby(rows["class"]).sum()
    each = f"{held.min()} to {held.max()} of 20 splits for each of the four classes with images enough"
    assert f"a promise of 0.9 was kept in {each}, {kept} of {len(rows)} in all" in text
    assert f"seen on {rows['held_out'].min()} to {rows['held_out'].max()} images each" in text
    means = 100 * (rows["found"] / rows["held_out"]).groupby(rows["class"]).mean()
    assert f"On average {means.min():.1f} to {means.max():.0f} % of a class were found" in text
    assert rows["split"].nunique() == 20 and rows["class"].nunique() == 4


def test_how_often_promises_of_groups_are_missed_is_what_the_rows_say():
    rows = pd.read_csv(ROOT / "benchmarks/results/groups.csv", dtype={"between": str})
    every = rows[(rows["groups"] == 10) & (rows["images_per_group"] == 10)]
    rows = every[every["between"] == "0.5"]
    missed = dict(zip(rows["counted"], rows["missed"], strict=True))
    made = dict(zip(rows["counted"], rows["promised"], strict=True))
    said = (
        f"{missed['by groups']} of {made['by groups']} promises of 0.8 were missed, and {missed['independent']} of "
        f"{made['independent']:,} if images of a group counted as independent"
    )
    assert said in " ".join(TEXT.split()) and set(rows["trials"]) == {1000}
    few = pd.read_csv(ROOT / "benchmarks/results/groups.csv", dtype={"between": str})
    few = few[(few["groups"] == 10) & (few["between"] == "0.8") & (few["counted"] == "by groups")].sum(
        numeric_only=True
    )
    assert f"ten groups seldom allow a promise, and {few['missed']} of {few['promised']} were missed" in TEXT
    odd = every[every["between"] == "odd"].set_index("counted").loc["by groups"]
    assert f"{odd['missed']} of {odd['promised']} promises were missed" in TEXT


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in CONSOLE:
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in makefile

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

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
CONSOLE = [
    line.split("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.strip().splitlines()
]


def test_the_blocks_are_all_there():
    assert (len(PYTHON), len(CONSOLE)) == (4, 35)


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


CHAIN = ("train", "threshold", "predict", "export")  # each needs what the one before it has written


def test_from_a_table_of_images_to_predictions(tmp_path, capsys):
    """The commands as printed, on images of two classes; training is shortened."""
    rows = []
    for c, name in enumerate(("eosinophil", "neutrophil")):
        for i in range(24):
            Image.new("RGB", (32, 32), (100 * c + i, 40, 90 - c)).save(f"{name}{i}.png")
            rows.append(f"{name}{i}.png,{name}")
    Path("cells.csv").write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    Path("new_images").mkdir()
    Image.new("RGB", (32, 32), (110, 40, 90)).save("new_images/new.png")
    ran = []
    for line in CONSOLE:
        _, _, module, *argv = [*shlex.split(line), "", "", ""][: max(3, len(shlex.split(line)))]
        if (name := module.rsplit(".", 1)[-1]) in CHAIN:
            short = ["--epochs", "2", "--folds", "2", "--methods", "erm,ros", "--model.widths", "[4]", "--quiet"]
            module = importlib.import_module(f"divaug.recipes.{name}")
            assert module.main([*argv, *(short if name == "train" else [])]) == 0
            ran.append(name)
    assert tuple(ran) == CHAIN
    assert "eosinophil" in capsys.readouterr().out
    assert len(pd.read_csv("predictions.csv")) == 1 and Path("models/cells/model.onnx").exists()


@pytest.mark.parametrize(
    "line",
    [
        line for line in CONSOLE
        if line.startswith("python") and "my_augs" not in line and line.split()[2].rsplit(".", 1)[1] not in CHAIN
    ],
)  # fmt: skip
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


def test_the_answer_is_what_the_rows_say():
    """README's numbers of the study, from its committed contrasts."""
    table = pd.read_csv(ROOT / "recipes/study/results/cifar10/contrasts.csv")
    rows = table[table["design"] == "longtailed"].set_index("contrast")
    text = " ".join(TEXT.split())
    for name, said in (("breadth", "costs {0:.1f} points of its recall [{1:.1f}, {2:.1f}]"),
                       ("number", "halving their *number*, exposure included, {0:.1f} [{1:.1f}, {2:.1f}]"),
                       ("phi", "kinds are {0:.2f} [{1:.2f}, {2:.2f}] of both together"),
                       ("breadth, topk_fe_heldout", "with more kinds ({0:.2f} [{1:.2f}, {2:.2f}])")):  # fmt: skip
        assert said.format(*rows.loc[name, ["effect", "lo", "hi"]]) in text
    assert rows.loc["phi", "verdict"].startswith("matters, less than number") and "it matters, less than number" in text
    assert "latent diversity not shown" in rows.loc["phi", "verdict"] and rows.loc["phi", "n"] == 12


def test_what_pretrained_weights_gave_is_what_the_rows_say():
    rows = pd.read_csv(ROOT / "benchmarks/results/transfer.csv")
    wide = 100 * rows[rows["steps"] == 1000].pivot_table(index="split", columns="arm", values="mean_recall")
    text = " ".join(TEXT.split())
    assert len(wide) == 8 and "eight grouped splits" in text
    for arm, said in (("full", "gave {0:.1f} points of mean recall over a start from scratch [{1:.1f}, {2:.1f}]"),
                      ("head", "a new head alone {0:.1f} [{1:.1f}, {2:.1f}]")):  # fmt: skip
        gain = (wide[arm] - wide["scratch"]).tolist()
        assert said.format(sum(gain) / len(gain), *t_interval(gain)) in text


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in CONSOLE:
        if line.startswith("make "):
            assert f"\n{line.split()[1]}:" in makefile

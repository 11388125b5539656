import shutil
from pathlib import Path

import pytest

from divaug.study.exchange import report
from divaug.study.exchange.plan import read_plan

STUDY = Path(__file__).parents[3] / "recipes" / "study"
PLANS = ("breadth", "balanced", "replications", "spread")
BOOTSTRAP = "Over cuts and test images at once"


def committed():
    return (STUDY / "breadth" / "report.md").read_text(encoding="utf-8").splitlines()


def test_the_committed_report_and_contrasts_are_what_its_rows_say(tmp_path, monkeypatch):
    """All of it but the bootstrap over test images, which needs the data sets' labels."""
    shutil.copytree(STUDY, tmp_path / "study")
    for folder in (tmp_path / "study" / "results").iterdir():
        (folder / "contrasts.csv").unlink()
    for name in ("phi", "design", "factorial", "sides"):
        monkeypatch.setattr(report.plots, name, lambda *arguments, name=name: STUDY / "breadth" / f"{name}.png")
    command = next(line for line in committed() if line.startswith("python -m divaug.recipes.study report"))
    report.write_report([read_plan(tmp_path / "study" / f"{name}.toml") for name in PLANS], command=command)
    said = (tmp_path / "study" / "breadth" / "report.md").read_text(encoding="utf-8").splitlines()
    pairs = list(zip(said, committed(), strict=True))
    other = [(new, old) for new, old in pairs if not old.startswith(BOOTSTRAP) and new != old]
    assert not [(new, old) for new, old in other if ".png" not in old]
    absent = [new for new, old in pairs if old.startswith(BOOTSTRAP)]
    assert absent == [
        f"{BOOTSTRAP}: not computed, since the labels of {name} are not at hand (DIVAUG_DATA)."
        for name in ("cifar10", "fashion_mnist")
    ]
    for name in ("cifar10", "fashion_mnist"):
        ours, theirs = (
            sorted((root / "results" / name / "contrasts.csv").read_text().splitlines())
            for root in (tmp_path / "study", STUDY)
        )
        assert ours == theirs


@pytest.mark.slow
def test_the_bootstrap_over_test_images_is_the_committed_one(real_data, monkeypatch):
    monkeypatch.setenv("DIVAUG_DATA", str(real_data))
    plan = read_plan(STUDY / "breadth.toml")
    said = [report._crossed(plan, design) for design in plan.designs]
    assert [line for line in said if line] == [line for line in committed() if line.startswith(BOOTSTRAP)]

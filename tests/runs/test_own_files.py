"""Files of the user's own that a run depends on: known by content, and refused where they have changed."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from divaug.base.errors import ConfigError
from divaug.config.layers import configure
from divaug.recipes import compare, digits_lt
from divaug.report import results
from divaug.report.compare import code_digest
from divaug.runs.folder import RunFolder, find_runs
from divaug.runs.own_files import own_files, recorded

TINY = [
    "--tracking", "off", "--progress", "lines", "--dataset", "digits", "--epochs", "1", "--imbalance-factor", "5",
    "--max-per-class", "46", "--model.widths", "[8]", "--top-k", "4", "--experiment", "tiny", "--device", "cpu",
    "--method", "erm",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})
    monkeypatch.setattr("divaug.figures.compare.draw_comparison", lambda *a: [])


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline of albumentations, written anew by a call."""
    import albumentations

    def write(p):
        albumentations.save(albumentations.Compose([albumentations.HorizontalFlip(p=p)]), tmp_path / "p.json")
        return tmp_path / "p.json"

    write(0.5)
    return write


@pytest.fixture
def listed(tmp_path):
    """A CSV of two images, of which a call makes other ones."""

    def draw(seed):
        for i in range(2):
            pixels = np.random.default_rng([seed, i]).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{i}.png")

    draw(0)
    (tmp_path / "made.csv").write_text("path,label\n0.png,8\n1.png,9\n")
    return tmp_path / "made.csv", draw


def test_files_of_components_are_found_wherever_they_stand(tmp_path, pipeline):
    file = str(pipeline(0.5))
    alone = configure(dataset="digits", method="erm", pixel="albumentations", **{"pixel.file": file})
    first, second = (
        {"name": "default+albumentations", **options}
        for options in ({"albumentations": {"file": file}}, {"albumentations.file": file})
    )
    phase = {"from": 0.5, "pixel": {"name": "albumentations", "file": file}}
    chained = [configure(dataset="digits", method="erm", pixel=pixel) for pixel in (first, second)]
    later = configure(dataset="digits", method="erm", phase=[phase])
    (tmp_path / "b").mkdir()
    second = tmp_path / "b" / "p.json"
    second.write_bytes(b"other")
    turned = configure(
        dataset="digits", method="erm", phase=[{**phase, "pixel": {**phase["pixel"], "file": str(second)}}]
    )
    both = replace(turned, pixel=alone.pixel)
    assert own_files(both)["files_sha256"] == {
        "pixel.file p.json": sha256(file), "phase 1 pixel.file p.json": sha256(second)
    }  # fmt: skip
    assert own_files(later)["files_sha256"] == {"phase 1 pixel.file p.json": sha256(file)}
    assert own_files(alone) == {"imports_sha256": {}, "files_sha256": {"pixel.file p.json": sha256(file)}}
    for config in chained:
        assert own_files(config)["files_sha256"] == {"pixel.albumentations.file p.json": sha256(file)}
    step = {"name": "albumentations", "file": file}
    for where, options in (("policy.tail", {"name": "by_class", "policy": {"tail": step}}),
                           ("steps.2", {"name": "chain", "steps": ["default", step]})):  # fmt: skip
        nested = configure(dataset="digits", method="erm", pixel=options)
        assert own_files(nested)["files_sha256"] == {f"pixel.{where}.file p.json": sha256(file)}
    pretrained = configure(dataset="digits", method="erm", model="timm:resnet10t", **{"model.checkpoint_path": file})
    assert own_files(pretrained)["files_sha256"] == {"model.checkpoint_path p.json": sha256(file)}
    gone = configure(dataset="digits", method="erm", pixel="albumentations")
    assert own_files(gone) == {"imports_sha256": {}, "files_sha256": {}}


def test_what_a_manifest_records_is_read_whatever_its_age():
    assert recorded({}) == {} and recorded({"imports_sha256": {"a.py": "1"}}) == {"a.py": "1"}
    assert recorded({"imports_sha256": {"a.py": "1"}, "files_sha256": {"p": "2"}}) == {"a.py": "1", "p": "2"}


@pytest.mark.parametrize("kind", ["pixel", "extra"])
def test_a_file_that_changes_is_another_run(kind, pipeline, listed, capsys):
    """Its row is not taken for the run's, its folder is not continued, and runs before and after are no one method."""
    if kind == "pixel":
        more, change = ["--pixel", "albumentations", "--pixel.file", str(pipeline(0.5))], lambda: pipeline(0.9)
        code, said = 2, "pixel.file p.json has changed since this run began"
    else:
        more, change = ["--extra-train", str(listed[0])], lambda: listed[1](1)
        code, said = 3, "holds a run with other data: training images differ"
    flags = [*TINY, *more, "--results", "rows.csv"]
    assert digits_lt.main([*flags, "--seed", "0"]) == 0
    (folder,) = (found for found in find_runs(["runs"]) if recorded(found.manifest))
    before = code_digest(recorded(folder.manifest))
    assert before == code_digest(recorded(own_files(folder.config)))
    assert digits_lt.main([*flags, "--seed", "0"]) == 0 and "its row is in rows.csv" in capsys.readouterr().err
    change()
    assert digits_lt.main([*flags, "--seed", "0"]) == code
    assert said in capsys.readouterr().err
    assert digits_lt.main([*flags, "--seed", "1"]) == 0
    table = results.read(Path("rows.csv"))
    assert before in set(table["code"].dropna()) and table["code"].nunique() == 2
    capsys.readouterr()
    for source in ("runs", "rows.csv"):
        assert compare.main([source]) == 0
        assert f"NOT ONE METHOD: between runs of {folder.label} a file of your own changed" in capsys.readouterr().out


def test_extra_images_are_read_for_their_content_in_the_order_of_the_list(listed):
    file, draw = listed
    config = configure(dataset="digits", method="erm", extra_train=str(file))
    ((name, first),) = own_files(config)["files_sha256"].items()
    digests = "".join(sha256(file.parent / f"{i}.png") for i in range(2))
    assert (name, first) == ("made.csv (its images)", hashlib.sha256(digests.encode()).hexdigest())
    draw(1)
    assert own_files(config)["files_sha256"][name] != first


def test_a_folder_older_than_the_record_is_continued(pipeline):
    assert digits_lt.main([*TINY, "--pixel", "albumentations", "--pixel.file", str(pipeline(0.5))]) == 0
    (folder,) = find_runs(["runs"])
    manifest = {key: value for key, value in folder.manifest.items() if key not in ("imports_sha256", "files_sha256")}
    pipeline(0.9)
    with pytest.raises(ConfigError, match=r"p\.json has changed"):
        RunFolder(folder.path).adopt(folder.config, folder.manifest)
    (folder.path / "manifest.json").write_text(json.dumps(manifest))
    RunFolder(folder.path).adopt(folder.config, manifest)

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from divaug.base.errors import DataError, DivaugError
from divaug.config.layers import resolve
from divaug.data.image_files import Geometry, ImageFiles, decode
from divaug.data.load import load_data
from divaug.runs.folder import find_runs
from divaug.train.build import build


def extra_label(method, file):
    """A method's label with extra images: the CSV's name and four digits of its content."""
    return f"{method}+extra-train={file.stem}-{hashlib.sha256(file.read_bytes()).hexdigest()[:4]}"


def config(**flags):
    return resolve(flags={"dataset": "digits", "imbalance_factor": 5.0, "max_per_class": 20, **flags})


@pytest.fixture
def made(tmp_path):
    """Six images of two generators for two of the digits."""
    lines = ["path,label,source"]
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        lines.append(f"{i}.png,{8 + i % 2},{('gan', 'diffusion')[i % 3 == 0]}")
    (tmp_path / "made.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "made.csv"


def test_extra_pictures_join_the_cut_marked_by_source(made):
    plain, more = load_data(config()), load_data(config(extra_train=str(made)))
    n = len(plain.train.labels)
    assert len(more.train.labels) == n + 6 and more.train.labels[n:].tolist() == [8, 9, 8, 9, 8, 9]
    assert (more.train.images[:n] == plain.train.images).all() and more.train.images.shape[1:] == (8, 8, 1)
    assert (more.test.labels == plain.test.labels).all()
    assert more.counts.tolist() == (plain.counts + np.array([0] * 8 + [3, 3])).tolist()
    assert (more.cut.group_counts == plain.cut.group_counts).all()  # head, mid and tail stay those of the cut
    assert more.manifest["extra_counts"] == {"diffusion": [0] * 8 + [1, 1], "gan": [0] * 8 + [2, 2]}
    assert f"extra training images: 2 of diffusion, 4 of gan, added to {n} of the cut" in more.notes
    grey = np.asarray(Image.open(made.parent / "0.png").resize((8, 8), Image.Resampling.BILINEAR)) @ [
        0.299,
        0.587,
        0.114,
    ]
    np.testing.assert_allclose(more.train.images[n, :, :, 0], grey, atol=1)


@pytest.mark.usefixtures("no_figures")
def test_every_method_runs_without_and_with_them(made, tiny, capsys):
    from divaug.recipes import digits_lt

    assert digits_lt.main([*tiny, "--methods", "erm,ros", "--epochs", "1", "--extra-train", str(made)]) == 0
    out = capsys.readouterr().out
    for label in ("erm", extra_label("erm", made), "ros", extra_label("ros", made)):
        assert any(line.split()[:1] == [label] for line in out.splitlines()), label
    assert "Differences from erm in points" in out and f"{extra_label('erm', made)}, bal: " in out


def test_a_file_that_is_refused_is_refused_before_the_first_run(made, tiny, capsys):
    from divaug.recipes import digits_lt

    write(made, "path,label\n0.png,ten\n")
    assert digits_lt.main([*tiny, "--method", "erm", "--extra-train", str(made)]) == 3
    assert "labels ['ten'] are not classes of the data set" in capsys.readouterr().err
    with pytest.raises(DivaugError, match="no run folder"):
        find_runs(["runs"])


def test_own_images_stay_files_with_extra_ones(pictures, made, monkeypatch):
    monkeypatch.setattr("divaug.data.datasets._own.RESIDENT_BYTES", 100)
    made.write_text("path,label\n0.png,dark\n1.png,bright\n")
    flags = {"dataset": "image_folder", "path": str(pictures), "test_frac": 0.3, "image_size": 12}
    data = load_data(resolve(flags={**flags, "extra_train": str(made)}))
    plain = load_data(resolve(flags=flags))
    assert isinstance(data.train.images, ImageFiles) and len(data.train.images) == len(plain.train.images) + 2
    added = data.train.images[np.array([-1])][0]
    assert (added == decode(made.parent / "1.png", Geometry(12))).all() and data.train.labels[-2:].tolist() == [1, 0]
    assert data.own_images == len(plain.train.labels) == plain.own_images


def test_filters_and_their_start_are_those_without_extra_pictures(made):
    plain, more = config(), config(extra_train=str(made))
    one, other = (build(c, load_data(c)).model.backbone.whitening.weight for c in (plain, more))
    assert torch.equal(one, other)


def write(made, text):
    made.write_text(text)
    return str(made)


def test_what_is_wrong_is_said(made):
    with pytest.raises(DataError, match=r"labels \['ten'\] are not classes of the data set, which has \['0', "):
        load_data(config(extra_train=write(made, "path,label\n0.png,ten\n")))
    with pytest.raises(DataError, match="marked split = test"):
        load_data(config(extra_train=write(made, "path,label,split\n0.png,3,test\n")))
    test = load_data(config()).test
    Image.fromarray(np.repeat(test.images[5], 3, 2)).save(made.parent / "0.png")
    with pytest.raises(DataError, match=r"1 extra images are test images, .*0\.png among them"):
        load_data(config(extra_train=write(made, "path,label\n0.png,3\n1.png,3\n")))
    held = load_data(config(val_frac=0.2)).val
    assert held is not None
    Image.fromarray(np.repeat(held.images[0], 3, 2)).save(made.parent / "1.png")
    with pytest.raises(DataError, match=r"1 extra images are validation images, .*1\.png among them"):
        load_data(config(val_frac=0.2, extra_train=write(made, "path,label\n1.png,3\n")))
    with pytest.raises(DataError, match="no such image"):
        load_data(config(extra_train=write(made, "path,label\nnowhere.png,3\n")))


@pytest.mark.parametrize(("key", "value"), [("resize", "crop"), ("bits", 12)])
def test_extra_images_are_made_square_and_read_as_those_of_the_cut(pictures, tmp_path, key, value):
    """Resident images, as own ones under 2 GiB are."""
    grey = np.linspace(0, 4095, 14 * 30).reshape(14, 30).astype(np.uint16)  # 12 of 16 bits, and not square
    Image.fromarray(grey).save(tmp_path / "more.png")
    (tmp_path / "more.csv").write_text("path,label\nmore.png,dark\n")
    own = {"dataset": "image_folder", "path": str(pictures), "profile": "natural", "test_frac": 0.3, "image_size": 12}
    data = load_data(resolve(flags={**own, key: value, "extra_train": str(tmp_path / "more.csv")}))
    assert isinstance(data.train.images, np.ndarray)
    wanted = decode(tmp_path / "more.png", Geometry(12, **{key: value}))
    np.testing.assert_array_equal(data.train.images[-1], wanted)
    assert (wanted != decode(tmp_path / "more.png", Geometry(12))).any()


@pytest.mark.usefixtures("no_figures")
def test_a_run_with_extra_images_is_resumed_by_its_folder(made, tiny, untimed):
    from divaug.recipes import digits_lt

    assert digits_lt.main([*tiny, "--method", "erm", "--epochs", "1", "--extra-train", str(made)]) == 0
    folder = next(run for run in find_runs(["runs"]) if "extra" in run.label)
    before = untimed(folder.path)
    assert digits_lt.main(["--resume", str(folder.path)]) == 0
    (folder.path / "result.json").unlink()
    assert digits_lt.main(["--resume", str(folder.path)]) == 0 and untimed(folder.path) == before


def test_extra_images_of_other_parts_or_of_their_groups_are_refused(pictures, tmp_path):
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(tmp_path / "new.png")
    own = {
        "dataset": "csv",
        "path": str(pictures / "cells.csv"),
        "profile": "natural",
        "test_frac": 0.3,
        "image_size": 12,
    }
    held_out = load_data(resolve(flags=own)).test.groups[0]
    for row, said in (
        ("split\nnew.png,dark,val", "some are marked split = val"),
        (f"group\nnew.png,dark,{held_out}", f"the group {held_out} is in the test images too"),
    ):
        write(tmp_path / "new.csv", f"path,label,{row}\n")
        with pytest.raises(DataError, match=said):
            load_data(resolve(flags={**own, "extra_train": str(tmp_path / "new.csv")}))

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import divaug
from divaug.base.errors import ConfigError, DataError, DivaugError
from divaug.data.datasets.digits import digits
from divaug.data.images import Request


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = divaug.configure(
        dataset="digits", method="erm", epochs=3, max_per_class=40, tracking="off", progress="none", precision="fp32",
        output_dir=str(tmp_path_factory.mktemp("model")), **{"model.widths": [8], "top_k": 4},
    )  # fmt: skip
    return divaug.run(config)


def test_a_model_predicts_what_the_run_did(trained):
    model, images = divaug.load(trained), digits(Request()).test.images
    outputs = np.load(trained.path / "test_outputs.npz")["logits"]
    table = model.predict(images)
    wanted = torch.from_numpy(outputs).double().softmax(1).numpy()
    assert list(table.columns) == [
        "label", "probability", "second", "decision", "unreadable", *(f"p_{c}" for c in range(10))
    ]  # fmt: skip
    assert table["second"].tolist() == [model.classes[c] for c in np.argsort(-outputs, axis=1)[:, 1]]
    assert (table["decision"] == table["label"]).all() and (table["unreadable"] == "").all()
    np.testing.assert_allclose(table.filter(like="p_").to_numpy(), wanted, atol=1e-4)
    assert table["label"].tolist() == [model.classes[c] for c in outputs.argmax(1)]
    np.testing.assert_allclose(table["probability"], wanted.max(1), atol=1e-4)
    assert model.classes == tuple(str(c) for c in range(10)) and not model.network.training
    features = model.features(images)
    with torch.no_grad():
        logits = model.network.head(torch.from_numpy(features))
    np.testing.assert_allclose(logits, outputs, atol=1e-4)


def test_a_folder_takes_no_run_of_another_seed(trained):
    config = trained.config
    with pytest.raises(ConfigError, match=f"holds a run with seed = .*, but this one has {config.seed + 1}"):
        trained.adopt(replace(config, seed=config.seed + 1), trained.manifest)


def test_growth_is_since_the_first_epoch(trained):
    rows = [row["per_class"] for row in trained.metrics.rows()]
    assert len(rows) == 3 and rows[1]["views/number"] != rows[0]["views/number"]
    for row in rows[1:]:
        grown = np.subtract(row["views/number"], rows[0]["views/number"])
        np.testing.assert_array_equal(row["views/growth"], grown)


def test_files_images_and_arrays_are_one(trained, tmp_path):
    model, images = divaug.load(trained.path), digits(Request()).test.images[:3]
    paths = []
    for i, image in enumerate(images):
        Image.fromarray(image[:, :, 0]).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    wanted = model.predict(images)
    found = model.predict(paths)
    assert found["path"].tolist() == [str(path) for path in paths]
    pd.testing.assert_frame_equal(found.drop(columns="path"), wanted)
    pd.testing.assert_frame_equal(model.predict([Image.open(path) for path in paths]), wanted)
    colour = np.repeat(images, 3, axis=3)
    pd.testing.assert_frame_equal(model.predict(colour), wanted)  # grey of three equal channels
    one = model.predict(paths[0])
    assert len(one) == 1 and len(model.predict(images[0])) == 1 and len(model.predict(images[0, :, :, 0])) == 1
    assert model.transform(Image.new("L", (40, 30))).shape == (1, 8, 8)  # another size is resized


def test_a_run_stopped_in_its_first_epoch_is_not_loaded(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "seed0")
    file = tmp_path / "seed0" / trained.checkpoint.relative_to(trained.path)
    content = torch.load(file, weights_only=True)
    torch.save({**content, "epoch": 0}, file)
    with pytest.raises(DivaugError, match="has not finished its first epoch"):
        divaug.load(tmp_path / "seed0")


def test_files_that_cannot_be_read_are_rows_that_say_so(trained, tmp_path):
    model, image = divaug.load(trained), digits(Request()).test.images[0]
    Image.fromarray(image[:, :, 0]).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"no")
    paths = [tmp_path / "broken.png", tmp_path / "good.png", tmp_path / "missing.png"]
    found = model.predict(paths)
    assert found["path"].tolist() == [str(path) for path in paths]
    assert found["unreadable"].iloc[1] == "" and "cannot read image" in found["unreadable"].iloc[0]
    assert "missing.png" in found["unreadable"].iloc[2]
    assert found.loc[[0, 2], ["label", "second", "decision"]].to_numpy().tolist() == [["", "", ""]] * 2
    assert found.loc[[0, 2]].filter(like="p").select_dtypes("number").isna().all(axis=None)
    pd.testing.assert_series_equal(found.loc[1], model.predict(paths[1]).loc[0], check_names=False)
    alone = model.predict(paths[:1])
    assert len(alone) == 1 and alone["unreadable"].iloc[0]
    pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"path": paths, "other": 1})), found)
    with pytest.raises(DataError, match="no column 'path': found file"):
        model.predict(pd.DataFrame({"file": paths}))


def test_a_stream_gives_the_same_rows_batch_by_batch_and_reads_no_further(trained):
    model, images = divaug.load(trained), digits(Request()).test.images[:10]
    taken = []

    def source():
        for image in images:
            taken.append(image)
            yield image

    batches = model.stream(source(), batch_size=4)
    first = next(batches)
    assert len(first) == len(taken) == 4
    pd.testing.assert_frame_equal(pd.concat([first, *batches], ignore_index=True), model.predict(images))


OWN = """
from divaug import PIXEL
@PIXEL.register("own_darken")
class Own:
    def sample(self, labels, size, rng):
        return None
    def apply_one(self, image, plan, i):
        return image // 2
"""
RUN = """
import sys, divaug
from pathlib import Path
keys = dict(dataset="digits", pixel="own_darken", epochs=1, max_per_class=20, imbalance_factor=4.0, tracking="off",
            progress="none", output_dir="runs")
same = {"imports": ["own_augs.py"]}, {"imports": "own_augs.py"}, {"import": ["own_augs.py"]}
configs = [divaug.configure(**keys, **own) for own in same]
assert {config.imports for config in configs} == {(str(Path("own_augs.py").absolute()),)}
print(divaug.run(configs[0]).result["final/test_acc"])
"""


def test_own_code_is_found_from_everywhere_and_a_run_of_changed_code_is_not_continued(tmp_path):
    """In processes of their own, so that nothing stays registered here."""

    def run():
        command = [sys.executable, "-c", RUN]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    (tmp_path / "own_augs.py").write_text(OWN)
    first, again = run(), run()
    assert first.returncode == again.returncode == 0, first.stderr
    assert first.stdout == again.stdout
    (tmp_path / "own_augs.py").write_text(OWN.replace("// 2", "// 3"))
    changed = run()
    assert changed.returncode == 1 and "own_augs.py has changed since this run began; choose another" in changed.stderr


def test_what_is_no_image_is_refused(trained, tmp_path):
    model = divaug.load(trained)
    for wrong, said in (
        (np.zeros((8, 8, 1)), "expected uint8"),
        (np.zeros((8, 8, 4), np.uint8), "expected uint8"), ([], "no image was given"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            model.predict(wrong)
    for tensors in ([torch.zeros(1, 8, 8)], (torch.zeros(3, 8, 8),)):
        with pytest.raises(DataError, match="tensors may be normalised or not"):
            model.predict(tensors)
    with pytest.raises(DataError, match="32 bits"):
        model.predict(Image.new("F", (8, 8)))
    with pytest.raises(DivaugError, match="no run folder at or below"):
        divaug.load(tmp_path)
    with pytest.raises(DivaugError, match=r"is not a run, but runs lie below it: .*seed0"):
        divaug.load(trained.path.parent)


@pytest.mark.parametrize("mode", ["I;16", "RGBA", "P", "LA", "L"])
def test_an_opened_image_is_read_as_its_file_is(trained, tmp_path, mode):
    rng, file = np.random.default_rng(0), tmp_path / "image.png"
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (8, 8)).astype(np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (8, 8, 4)).astype(np.uint8)).convert(
            "RGB" if mode == "P" else mode
        )
        if mode == "P":
            image = image.convert("P")
            image.info["transparency"] = 0
    image.save(file)
    model = divaug.load(trained)
    np.testing.assert_array_equal(model.transform(file), model.transform(Image.open(file)))


def test_configure_takes_what_flags_take(monkeypatch):
    one = divaug.configure(dataset="digits", mix="cutmix", **{"mix.alpha": 0.5, "model.widths": [8]})
    assert one.mix.name == "cutmix" and one.mix.options == {"alpha": 0.5} and one.model.options == {"widths": [8]}
    assert divaug.configure(dataset="digits", **{"mix.alpha": 0.5}, mix="cutmix") == divaug.configure(
        dataset="digits", mix={"name": "cutmix", "alpha": 0.5}
    )
    monkeypatch.setenv("DIVAUG_EPOCHS", "7")
    assert divaug.configure(dataset="digits").epochs == 7 and divaug.configure(dataset="digits", epochs=2).epochs == 2
    with pytest.raises(ConfigError, match="unknown key 'epoch'"):
        divaug.configure(epoch=3)

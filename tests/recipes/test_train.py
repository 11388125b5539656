"""From a CSV to predictions: train, threshold, predict, export, as a user types them."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import divaug
from divaug.base.errors import ConfigError
from divaug.base.stats import effective_number, wilson_interval
from divaug.models.network import build_network
from divaug.recipes import export, folder_lt, predict, threshold, train
from divaug.report import own_images as page_of_own_images
from divaug.runs.decision import Decision
from divaug.runs.export import export_onnx
from divaug.runs.model import Model
from divaug.study import folds, own_images


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Digits as files: 60, 40, 25 and 8 images in 30 groups."""
    folder, found, rows = tmp_path_factory.mktemp("cells"), load_digits(), []
    for c, n in enumerate((60, 40, 25, 8)):
        for k, i in enumerate(np.flatnonzero(found.target == c)[:n]):
            Image.fromarray((found.images[i] * 15.9).astype(np.uint8)).save(folder / f"{c}_{k}.png")
            rows.append((f"{c}_{k}.png", f"kind {c}", f"g{i % 30}"))
    with (folder / "cells.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    return folder


@pytest.fixture(scope="module")
def model(cells, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    code = train.main([
        str(cells / "cells.csv"), "--folds", "3", "--methods", "erm,ros", "--image-size", "8", "--epochs", "6",
        "--model.widths", "[8]", "--quiet", "--output-dir", str(out / "runs"), "--models-dir", str(out / "models"),
    ])  # fmt: skip
    assert code == 0
    return out / "models" / "cells"


def test_the_model_folder_has_all_that_is_needed_and_says_how_good_it_is(model, cells):
    assert {"model.json", "weights.safetensors", "card.md", "out_of_fold.csv", "report"} <= {
        p.name for p in model.iterdir()
    }
    card = json.loads((model / "model.json").read_text())["card"]
    assert card["images"] == 133 and card["folds"] == 3 and card["groups"] == 30
    table = pd.read_csv(model / "out_of_fold.csv", dtype=str)
    rows = pd.read_csv(cells / "cells.csv", dtype=str)
    assert len(table) == 133 and set(table["fold"]) == {"0", "1", "2"}
    assert table.groupby("group")["fold"].nunique().max() == 1
    names = {path.rsplit("/", 1)[-1]: label for path, label in zip(table["path"], table["label"], strict=True)}
    assert names == dict(zip(rows["path"], rows["label"], strict=True))
    for row in card["classes"]:
        own = table[table["label"] == row["class"]]
        assert row["recall"] == pytest.approx(100 * (own["predicted"] == own["label"]).mean())
        assert row["judged"] == (len(own) >= 20)
        called = table[table["predicted"] == row["class"]]
        right = 100 * (called["label"] == row["class"]).mean() if len(called) else np.nan
        assert row["precision"] == pytest.approx(right, nan_ok=True)
    pooled = {
        method: [np.load(f) for f in sorted((model.parents[1] / "runs").glob(f"*/{method}/fold*/test_outputs.npz"))]
        for method in ("erm", "ros")
    }
    for row in card["recalls"]:
        for method, outputs in pooled.items():
            logits, labels = (np.concatenate([fold[key] for fold in outputs]) for key in ("logits", "labels"))
            own = labels == int(row["class"].removeprefix("kind "))
            assert row[method] == pytest.approx(100 * (logits.argmax(1) == labels)[own].mean())
    assert [row["class"] for row in card["recalls"]] == [row["class"] for row in card["classes"]]
    assert any(note.endswith("so no method is chosen by them: kind 3 (8)") for note in card["notes"])
    found = {
        method: sum(int((f["logits"].argmax(1) == f["labels"])[f["labels"] == 3].sum()) for f in folds)
        for method, folds in pooled.items()
    }
    assert any(
        "of the 8 tested images of kind 3, erm found " in note
        and all(f"{method} found {n} (" in note for method, n in found.items())
        for note in card["notes"]
    )
    page = (model / "report" / "index.html").read_text()
    assert card["conclusion"].split(" (")[0] in page and page.count("data:image/png") >= 2 and "kind 3" in page
    assert "tested on nothing" in (model / "card.md").read_text()
    assert {p.name for p in (model / "report").glob("*.png")} == {
        "augmentation.png", "confusion.png", "operating.png", "recall.png",
    }  # fmt: skip
    wrong = table[table["label"] != table["predicted"]]
    shown = len(list((model / "report" / "mistakes").glob("*.png")))
    assert shown == min(20, len(wrong)) > 0 and f"The surest mistakes ({shown} of {len(wrong)})" in page
    for row in wrong.to_dict("records"):
        assert float(row["label_probability"]) == float(row[f"p_{row['label']}"]) < float(row["probability"])
    right = 100 * (table["label"] == table["predicted"]).mean()
    assert f"{right:.1f} % of 133 out-of-fold images are right (always saying kind 0: {6000 / 133:.1f} %)" in page
    for row in card["classes"]:
        for of, share, ends in (("predicted", "precision", "precision_"), ("label", "recall", "")):
            images = table[table[of] == row["class"]]
            if len(images):
                own = images["label_probability"].astype(float).to_numpy()
                count = effective_number(own, images["group"].to_numpy())
                span = [row[f"{ends}{end}"] / 100 for end in ("low", "high")]
                assert span == pytest.approx(list(wilson_interval(row[share] / 100, count)), rel=0.02)  # six digits
                assert of == "predicted" or row["counted"] == pytest.approx(count, rel=0.02)
    few = next(note for note in card["notes"] if note.startswith("of the 8 tested images of kind 3, "))
    found = {one["class"]: one for one in card["recalls"]}["kind 3"]
    erm, ros = (round(8 * found[method] / 100) for method in ("erm", "ros"))
    assert re.search(rf"erm found {erm} \(\d+ %, \d+ to \d+\), ros found {ros} \(\d+ %, \d+ to \d+\)", few)
    other = {"erm": "ros", "ros": "erm"}[card["method"]]
    more = {"erm": erm, "ros": ros}[other] > {"erm": erm, "ros": ros}[card["method"]]
    assert (f"{other} found more than {card['method']}" in few) == (f"--methods {other} makes" in few) == more
    mean = next(one["mean recall"] for one in card["methods"] if one["method"] == card["method"])
    assert f"mean recall of the 3 of 4 classes that count {mean:.1f} %" in page
    assert (
        "133 images in 30 groups: 6 epochs of the preset fast at 8x8 pixels, seed 0." in (model / "card.md").read_text()
    )
    assert [row["class"] for row in card["gains"]] == ["kind 0", "kind 1", "kind 2"]  # those that are judged
    for row in card["gains"]:
        recalls = next(one for one in card["recalls"] if one["class"] == row["class"])
        assert row["ros"]["difference"] == pytest.approx(recalls["ros"] - recalls["erm"])
        assert row["ros"]["low"] <= row["ros"]["difference"] <= row["ros"]["high"]
    assert "Where to set a threshold?" in page and page.index("Latent diversity") > page.index("The images")
    assert [(row["class"], row["images"], row["m"]) for row in card["latent"]] == [
        (f"kind {c}", n, 8) for c, n in enumerate((60, 40, 25, 8))
    ]  # at the size that every class has
    assert all(0 < row["top-K CE"] <= row["most"] for row in card["latent"])


def test_the_network_of_all_images_is_no_row_of_results(model):
    """It is tested on the images that it was trained on; the folds are rows."""
    table = divaug.read_runs(model.parents[1] / "runs")
    assert sorted(table["run"]) == sorted(["fold0", "fold1", "fold2"] * 2)


def test_new_images_are_predicted_in_place_of_the_training_folder(model, cells, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "moved")
    (tmp_path / "new").mkdir()
    for name in ("0_0.png", "1_0.png"):
        shutil.copy(cells / name, tmp_path / "new" / name)
    (tmp_path / "new" / "broken.png").write_bytes(b"no image")
    for name in ("notes.txt", "list.txt", ".cache"):
        (tmp_path / "new" / name).write_text("")
    output = tmp_path / "predictions.csv"
    assert predict.main([str(tmp_path / "moved"), str(tmp_path / "new"), "-o", str(output), "--batch-size", "2"]) == 0
    streams = capsys.readouterr()
    assert "1 unreadable" in streams.err and str(output) in streams.out
    assert "note: 3 files were left out, as hidden or no image: 2 .txt, 1 hidden\n" in streams.err
    folds_said = pd.read_csv(model / "out_of_fold.csv", dtype=str)
    right = ((folds_said["label"] == "kind 3") & (folds_said["predicted"] == "kind 3")).sum()
    assert f"note: classes tested on few images; the folds found: kind 3 {right} of 8\n" in streams.err and right < 8
    assert "never tested" not in streams.err
    assert "trained on 2 of these images" in streams.err  # copies, in a folder that was never trained on
    found = pd.read_csv(output, keep_default_na=False)
    assert list(found.columns)[:6] == ["path", "label", "probability", "second", "decision", "unreadable"]
    assert [path.rsplit("/", 1)[-1] for path in found["path"]] == ["0_0.png", "1_0.png", "broken.png"]
    assert "cannot read image" in found["unreadable"].iloc[2] and found["label"].iloc[2] == ""
    assert predict.main([str(tmp_path / "moved"), str(cells / "0_0.png"), str(tmp_path / "gone.png")]) == 0
    streams = capsys.readouterr()
    assert streams.out.count("\n") == 3 and "gone.png" in streams.out  # a file that is missing has a row too
    assert "trained on 1 of these images (their files are identical)" in streams.err and "1 unreadable" in streams.err
    assert "left out" not in streams.err
    (tmp_path / "list.csv").write_text(f"image_file,path\n{cells / '1_0.png'},{cells / '0_0.png'}\n")
    for more, name in (([], "0_0.png"), (["--path-column", "image_file"], "1_0.png")):
        assert predict.main([str(tmp_path / "moved"), str(tmp_path / "list.csv"), *more]) == 0
        assert capsys.readouterr().out.splitlines()[1].startswith(str(cells / name))
    assert predict.main([str(tmp_path / "moved"), str(cells / "0_0.png"), "--path-column", "file"]) == 2
    assert "--path-column has no effect here" in capsys.readouterr().err
    assert (model / "weights.safetensors").stat().st_mode & 0o777 == (model / "model.json").stat().st_mode & 0o777


def test_a_threshold_is_promised_where_there_are_enough_images_and_applied(model, cells, tmp_path, capsys):
    path = tmp_path / "model"
    shutil.copytree(model, path)
    assert threshold.main([str(path), "--class", "kind 0", "--sensitivity", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "kind 0 from a probability of" in said
    assert "; promised: sensitivity of 50 % or more (the lower end of its 95 % interval)" in said
    assert "of 60 out-of-fold images of kind 0 found" in said and "of 73 out-of-fold images others left alone" in said
    decision = json.loads((path / "model.json").read_text())["decision"]
    bound = decision["thresholds"]["kind 0"]
    table = pd.read_csv(path / "out_of_fold.csv")
    own = table.loc[table["label"] == "kind 0", "p_kind 0"]
    assert (own >= bound).mean() > 0.5
    before = (path / "model.json").read_text()
    rare = [str(path), "--class", "kind 3", "--sensitivity", "0.9"]
    assert threshold.main(rare) == 1
    refused = capsys.readouterr().err
    # n / (n + 1.96^2) is Wilson's lower bound of n of n: 0.9 takes 35
    enough = "cannot be promised from 8 tested images (they count as 7: images of one group are alike); it takes 35 independent ones or more, if all are found. Nothing was set. "
    plain = ((table["label"] == "kind 3") & (table["predicted"] == "kind 3")).sum()
    assert f"sensitivity of 90 % for kind 3 {enough}Without a threshold {plain} of 8 are found; --anyway" in refused
    assert "which finds 8 of 8 and calls" in refused
    assert (path / "model.json").read_text() == before
    (path / "model.onnx").touch()
    (path / "model.onnx.json").write_text('{"classes": [], "decision": {}}')
    assert threshold.main([*rare, "--anyway"]) == 0
    told = capsys.readouterr().out
    assert "model.onnx.json has it too" in told
    exported = json.loads((path / "model.onnx.json").read_text())
    assert exported == {"classes": [], "decision": json.loads((path / "model.json").read_text())["decision"]}
    set_to = json.loads((path / "model.json").read_text())["decision"]["thresholds"]
    made = Decision(thresholds=set_to).decide(table.filter(like="p_").to_numpy(), [f"kind {c}" for c in range(4)])
    for c in (0, 3):  # what all thresholds do together
        own, called = table["label"] == f"kind {c}", made == c
        alone = (own & (table[f"p_kind {c}"] >= set_to[f"kind {c}"])).sum()
        found = (own & called).sum()
        lost = f" ({alone} alone: other thresholds take {alone - found})" if found < alone else ""
        finds = (
            f"kind {c}: finds {(own & called).sum()} of {own.sum()}{lost}; {(called & ~own).sum()} others are called "
            f"kind {c} too"
        )
        assert finds in told
    scores, own = table["p_kind 3"], table["label"] == "kind 3"
    false = ((scores >= set_to["kind 3"]) & ~own).sum()
    assert f"{false} of 125 others are called kind 3 too: of {false + 8} called kind 3, " in told
    assert ("MOST ARE SOMETHING ELSE: " in told.split("all thresholds")[0]) == (false > 8)
    assert threshold.main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert all(
        line.strip() in shown for line in told.splitlines() if "others are called" in line or "of 8 out-of" in line
    )
    assert threshold.main([str(path), "--abstain", "0.1"]) == 0
    after = json.loads((path / "model.json").read_text())["decision"]
    assert set(after["thresholds"]) == {"kind 0", "kind 3"} and after["abstain"] > 0
    assert (table["probability"] < after["abstain"]).mean() == pytest.approx(0.1, abs=0.01)
    low = (table["probability"] < after["abstain"]).sum()
    assert low > 0 and "no decision on " in capsys.readouterr().out
    assert threshold.main([str(path), "--clear"]) == 0 and threshold.main([str(path)]) == 0
    assert "no threshold is set" in capsys.readouterr().out
    cleared = json.loads((path / "model.json").read_text())["decision"]
    assert cleared == {
        "temperature": decision["temperature"],
        "thresholds": {},
        "abstain": 0.0,
        "notes": {},
        "promised": {},
    }


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--class", "kind 9", "--sensitivity", "0.9"], 2, "no class 'kind 9'"),
        (["--sensitivity", "0.9"], 2, "--class is missing"),
        (["--class", "kind 0"], 2, "give one of --sensitivity"),
        (["--class", "kind 0", "--sensitivity", "0.9", "--specificity", "0.9"], 2, "give one of"),
        (["--class", "kind 0", "--sensitivity", "90"], 2, "must lie in (0, 1)"),
        (["--class", "kind 0", "--cost-miss", "1"], 2, "go together"),
        (["--clear", "--abstain", "0.1"], 2, "--clear removes everything"),
        (["--class", "kind 0", "--sensitivity", "0.9", "--specificity", "0.9", "--abstain", "0.1"], 2, "give one of"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(model, arguments, code, said, capsys):
    before = (model / "model.json").read_text()
    assert threshold.main([str(model), *arguments]) == code
    assert said in capsys.readouterr().err
    assert (model / "model.json").read_text() == before
    assert threshold.main([str(model.parent), "--clear"]) == 1


def test_the_exported_model_agrees_without_divaug_or_torch(model, cells, tmp_path, capsys):
    import onnxruntime

    import divaug

    assert export.main([str(model), "--to", "onnx", "-o", str(tmp_path / "cells.onnx")]) == 0
    capsys.readouterr()
    described = json.loads((tmp_path / "cells.onnx.json").read_text())
    files = sorted(cells.glob("*.png"))
    width, height = described["resize"]["to"]
    pixels = np.stack(
        [np.asarray(Image.open(f).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)) for f in files]
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "cells.onnx"))
    _, probabilities = session.run(described["outputs"], {"images": pixels})
    wanted = divaug.load(model).predict(files).filter(like="p_").to_numpy()
    np.testing.assert_allclose(probabilities, wanted, atol=1e-4)
    script = Path(__file__).parents[2] / "recipes" / "deployment" / "predict_onnx.py"
    code = script.read_text(encoding="utf-8")
    assert "import divaug" not in code and "import torch" not in code and len(code.splitlines()) <= 70
    rules = {}, {"kind 1": 0.02}, {"kind 1": 0.05, "kind 2": 0.02}, {f"kind {c}": 0.9 + 0.02 * c for c in range(4)}
    (tmp_path / "broken.png").write_bytes(b"no image")
    for bounds in rules:  # as divaug predict decides
        rule = Decision(described["decision"]["temperature"], bounds, abstain=0.6)
        (tmp_path / "cells.onnx.json").write_text(json.dumps({**described, "decision": rule.table()}))
        command = [
            sys.executable,
            str(script),
            str(tmp_path / "cells.onnx"),
            str(tmp_path / "broken.png"),
            *map(str, files),
        ]
        told = StringIO(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        broken, *rows = pd.read_csv(told, keep_default_na=False).to_dict("records")
        assert "cannot identify" in broken["unreadable"] and broken["decision"] == broken["label"] == ""
        table = pd.DataFrame(rows)
        found = table.filter(like="p_").to_numpy(dtype=float)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        names = [*described["classes"], ""]
        assert table["decision"].tolist() == [names[c] for c in rule.decide(found, described["classes"])]
        assert table["label"].tolist() == [names[c] for c in wanted.argmax(1)]
        assert table["second"].tolist() == [names[c] for c in wanted.argsort(1)[:, -2]]
        assert table["probability"].astype(float).tolist() == pytest.approx(found.max(1).tolist())
    below = subprocess.run(
        [*command[:3], str(cells)], capture_output=True, text=True, check=True
    ).stdout  # a folder: its images, not the CSV beside them
    assert len(below.splitlines()) == 1 + len(files) and ".csv" not in below
    usage = subprocess.run(command[:2], capture_output=True, text=True, check=False)
    assert usage.returncode == 2 and "MODEL.onnx IMAGES" in usage.stdout
    assert described["classes"] == [f"kind {c}" for c in range(4)]
    assert {path.name for path in tmp_path.glob("*cells*")} == {"cells.onnx", "cells.onnx.json"}  # nothing half-written


@pytest.mark.parametrize("how", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("channels", [3, 1])
def test_the_deployed_script_reads_images_as_the_model_does(model, tmp_path, how, channels):
    """Not square, transparent, 12 of 16 bits, turned by EXIF: probabilities are those of divaug predict."""
    rng, files = np.random.default_rng(0), [tmp_path / f"{k}.png" for k in range(4)]
    Image.fromarray(rng.integers(0, 256, (9, 21, 3), dtype=np.uint8)).save(files[0])
    Image.fromarray(rng.integers(0, 256, (20, 11, 4), dtype=np.uint8), "RGBA").save(files[1])
    Image.fromarray(rng.integers(0, 4096, (12, 17)).astype(np.uint16)).save(files[2])
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (8, 15), dtype=np.uint8)).save(files[3], exif=turned)
    found = divaug.load(model)
    network, shown = found.network, found.transform
    if channels == 1:
        network = build_network("whitened_cnn", 4, channels=1, size=(8, 8), seed=0, widths=[8])
        shown = replace(shown, shape=(8, 8, 1), mean=shown.mean[:1], std=shown.std[:1])
    found = Model(network, found.classes, replace(shown, resize=how, bits=12), found.decision)
    export_onnx(found, tmp_path / "m.onnx")
    script = Path(__file__).parents[2] / "recipes" / "deployment" / "predict_onnx.py"
    command = [sys.executable, str(script), str(tmp_path / "m.onnx"), *map(str, files)]
    told = pd.read_csv(StringIO(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    wanted = found.predict(files).filter(like="p_").to_numpy()
    np.testing.assert_allclose(told.filter(like="p_").to_numpy(dtype=float), wanted, atol=1e-4)


def test_folds_stop_where_one_diverges(cells, tmp_path, capsys):
    """Without it nothing is told of its method."""
    arguments = [str(cells / "cells.csv"), "--folds", "3", "--methods", "erm,ros", "--image-size", "8", "--epochs", "1"]
    places = ["--output-dir", str(tmp_path / "runs"), "--models-dir", str(tmp_path / "models"), "--jobs", "1"]
    wild = ["--model.widths", "[8]", "--lr", "1e30", "--warmup-frac", "0", "--min-steps", "0"]
    assert train.main([*arguments, *places, *wild]) == 1
    error = capsys.readouterr().err
    assert "the gradient or the loss is not finite" in error and "others are done" not in error
    assert len(list((tmp_path / "runs").rglob("config.toml"))) == 1


def test_a_second_command_trains_nothing_anew(model, cells, capsys, monkeypatch):
    from divaug.study import folds

    def fails(*anything):
        raise AssertionError("trained again")

    monkeypatch.setattr(folds, "run_tasks", lambda tasks, **keys: fails() if tasks else None)
    out = model.parents[1]
    assert train.main([
        str(cells / "cells.csv"), "--folds", "3", "--methods", "erm,ros", "--image-size", "8", "--epochs", "6",
        "--model.widths", "[8]", "--quiet", "--output-dir", str(out / "runs"), "--models-dir", str(out / "models"),
    ]) == 0  # fmt: skip
    capsys.readouterr()


COMMAND = (
    "--folds",
    "3",
    "--methods",
    "erm",
    "--image-size",
    "8",
    "--epochs",
    "1",
    "--jobs",
    "1",
    "--model.widths",
    "[8]",
    "--quiet",
)


def _train(place, *more):
    where = ("--output-dir", str(place / "runs"), "--models-dir", str(place))
    return train.main([str(place / "images" / "cells.csv"), *COMMAND, *where, *more])


def test_what_is_set_stays_with_the_predictions_it_was_chosen_on(cells, tmp_path, capsys):
    """The same command again keeps thresholds and exports; a model of mended labels has neither, and says so."""
    shutil.copytree(cells, tmp_path / "images")
    assert _train(tmp_path) == 0
    folder = tmp_path / "cells"
    assert threshold.main([str(folder), "--class", "kind 1", "--cost-miss", "3", "--cost-false", "1"]) == 0
    assert export.main([str(folder)]) == 0
    before = (folder / "model.json").read_text()
    assert _train(tmp_path) == 0
    assert (folder / "model.json").read_text() == before and (folder / "model.onnx").exists()
    content = json.loads(before)
    content["decision"]["temperature"] *= 2  # as if the folds before had given another: it is in the export
    (folder / "model.json").write_text(json.dumps(content))
    assert _train(tmp_path) == 0 and not list(folder.glob("*.onnx*"))
    assert threshold.main([str(folder), "--class", "kind 1", "--cost-miss", "3", "--cost-false", "1"]) == 0
    assert export.main([str(folder)]) == 0
    table = pd.read_csv(tmp_path / "images" / "cells.csv", dtype=str)
    table.assign(label=table["label"].replace({"kind 0": "kind 1", "kind 1": "kind 0"})).to_csv(
        tmp_path / "images" / "cells.csv", index=False
    )
    capsys.readouterr()
    command = [part for part in COMMAND if part != "--quiet"]
    where = ("--output-dir", str(tmp_path / "runs"), "--models-dir", str(tmp_path))
    assert train.main([str(tmp_path / "images" / "cells.csv"), *command, *where]) == 0
    told = capsys.readouterr().err
    assert "removed, as chosen on other predictions: the threshold of kind 1" in told
    assert "removed, as they hold the model before: model.onnx" in told
    assert not json.loads((folder / "model.json").read_text())["decision"]["thresholds"]
    assert not list(folder.glob("*.onnx*"))


def test_finished_folds_are_only_taken_for_the_same_images_deal_and_settings(cells, tmp_path, capsys):
    shutil.copytree(cells, tmp_path / "images")
    file = tmp_path / "images" / "cells.csv"
    table = pd.read_csv(file, dtype=str)
    assert _train(tmp_path, "--experiment", "x") == 0
    shutil.rmtree(next((tmp_path / "runs").glob("x-*")) / "erm" / "all")  # not begun: nothing else would notice
    assert _train(tmp_path, "--experiment", "x", "--lr", "0.01") == 2
    assert "holds a run with lr = 0.05" in capsys.readouterr().err
    table.assign(group=[f"g{i % 20}" for i in range(len(table))]).to_csv(file, index=False)  # groups were mended
    assert _train(tmp_path, "--experiment", "x") == 0
    assert len(list((tmp_path / "runs").glob("x-*"))) == 2
    found = pd.read_csv(tmp_path / "cells" / "out_of_fold.csv", dtype=str)
    assert found.groupby("group")["fold"].nunique().max() == 1 and found["group"].nunique() == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0-1"], "--seeds: divaug train has one seed"),
        (["--profile", "exp"], "--profile has no effect here"),
        (["--max-per-class", "9"], "--max-per-class has no effect here"),
        (["--val-frac", "0.2"], "--val-frac has no effect here"),
        (["--holdout", "2"], "--holdout has no effect here"),
        (["--data-part", "a"], "--data-part has no effect here"),
        (["--extra-train", "more.csv"], "--extra-train has no effect here"),
        (["--subset", "literature"], "--subset has no effect here"),
        (["--vary", "images"], "--vary has no effect here"),
        (["--vary", "init"], "--vary has no effect here"),
    ],
)
def test_flags_of_a_single_cut_are_refused(cells, arguments, said, capsys):
    Path("more.csv").write_text("path,label\n")
    assert train.main([str(cells / "cells.csv"), "--dry-run", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_path_is_missing_with_a_config_too_and_a_configuration_is_only_printed(cells, tmp_path, capsys):
    (tmp_path / "settings.toml").write_text("epochs = 3\n")
    (tmp_path / "path.toml").write_text(f'path = "{cells}/cells.csv"\n')
    assert folder_lt.main(["--config", str(tmp_path / "path.toml"), "--method", "erm", "--print-config"]) == 0
    assert 'dataset = "csv"' in capsys.readouterr().out
    (tmp_path / "other.toml").write_text('dataset = "digits"\n')
    assert train.main(["--config", str(tmp_path / "other.toml"), "--dry-run"]) == 2
    assert "the argument PATH is missing" in capsys.readouterr().err
    for recipe in (train, folder_lt):
        assert recipe.main(["--config", str(tmp_path / "settings.toml"), "--dry-run"]) == 2
        assert "the argument PATH is missing" in capsys.readouterr().err
    arguments = [str(cells / "cells.csv"), "--config", str(tmp_path / "settings.toml"), "--print-config"]
    assert train.main([*arguments, "--methods", "erm,ros", "--models-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("epochs = 3") == 2 and not (tmp_path / "cells").exists() and not Path("runs").exists()


def test_a_table_that_cannot_be_read_leaves_no_half_written_predictions(model, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("label,path\nx\n")
    assert predict.main([str(model), str(tmp_path / "list.csv"), "-o", str(tmp_path / "out.csv")]) == 3
    assert "list.csv, line 2: no path" in capsys.readouterr().err
    assert {file.name for file in tmp_path.iterdir()} == {"list.csv"}


def test_predictions_are_written_over_nothing_else(model, cells, tmp_path, capsys):
    table, out = tmp_path / "own.csv", tmp_path / "out.csv"
    table.write_text(f"path,label\n{cells / '0_0.png'},kind 0\n")
    before = table.read_text()
    assert predict.main([str(model), str(table), "-o", str(table)]) == 2
    assert "holds something else than predictions" in capsys.readouterr().err and table.read_text() == before
    out.touch()  # nothing is in it
    for _ in range(2):  # and over predictions
        assert predict.main([str(model), str(table), "-o", str(out)]) == 0
    assert predict.main([str(model), str(table), "-o", str(tmp_path)]) == 2
    capsys.readouterr()
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert predict.main([str(model), str(tmp_path / "bad.png"), "-o", str(out)]) == 3
    assert "none of the 1 images can be read" in capsys.readouterr().err
    assert pd.read_csv(out)["path"].tolist() == [str(tmp_path / "bad.png")]  # the row says why


def test_named_parts_and_a_model_of_other_classes_are_said(cells, tmp_path, capsys):
    """Twelve images of each class: three to be tested on, two to validate on."""
    parts = ["test"] * 3 + ["val"] * 2 + ["train"] * 7
    arguments = ["--folds", "2", "--methods", "erm", "--image-size", "8", "--epochs", "1", "--model.widths", "[8]"]
    places = ["--output-dir", str(tmp_path / "runs"), "--models-dir", str(tmp_path / "models"), "--jobs", "1"]
    for title in ("kind", "sort"):
        rows = [(str(cells / f"{c}_{k}.png"), f"{title} {c}", part) for c in (0, 1) for k, part in enumerate(parts)]
        with (tmp_path / "parts.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", "split"), *rows])
        assert train.main([str(tmp_path / "parts.csv"), *arguments, *places]) == 0
        said = capsys.readouterr().err
        assert ("held a model of other classes (kind 0, kind 1): it is replaced" in said) == (title == "sort")
        for note in ("6 images of the named test part are left out", "4 images of the named validation part are dealt"):
            assert f"note: {note}" in said
            card = json.loads((tmp_path / "models" / "parts" / "model.json").read_text())["card"]
            assert any(line.startswith(note) for line in card["notes"]) and card["images"] == 18
    (tmp_path / "cells.v1" / "a").mkdir(parents=True)
    assert train.main([str(tmp_path / "cells.v1"), "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("models/cells.v1\n")


def test_the_folder_of_a_fold_says_its_images_in_their_order_its_deal_and_its_seed(cells):
    config = divaug.configure(dataset="csv", path=str(cells / "cells.csv"), image_size=8, profile="natural")
    dealt = folds.deal(config, 3)
    here = folds.folder_of(config, dealt, 0).path.parents[1]
    turned = replace(dealt, images=dealt.images.take(np.arange(len(dealt.fold))[::-1]))
    assert turned.identity == dealt.identity
    others = {
        folds.folder_of(config, turned, 0).path.parents[1],
        folds.folder_of(config, replace(dealt, fold=dealt.fold[::-1].copy()), 0).path.parents[1],
        folds.folder_of(replace(config, seed=1), dealt, 0).path.parents[1],
    }
    assert len(others | {here}) == 4 and folds.folder_of(config, dealt, 1).path.parents[1] == here


def test_names_that_no_table_can_hold_are_refused_before_training(cells, tmp_path, capsys):
    for c in (0, 1):
        (tmp_path / "own" / f"kind {c}").mkdir(parents=True)
        for k in range(4):
            shutil.copy(cells / f"{c}_{k}.png", tmp_path / "own" / f"kind {c}" / f"{k}.png")
    odd = str(tmp_path / "own" / "kind 0").encode() + b"/Gr\xfc.png"
    try:
        shutil.copy(cells / "0_9.png", odd)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    assert train.main([str(tmp_path / "own"), "--folds", "2", "--models-dir", str(tmp_path / "models")]) == 3
    assert "1 file or class names are not UTF-8" in capsys.readouterr().err and not (tmp_path / "models").exists()


def test_thresholds_stay_where_images_were_only_moved():
    one = "path,group,label,p_a\n/old/a.png,picture /old/a.png,a,0.9\n"
    assert own_images._same(one, one.replace("/old/", "/new/"))
    assert not own_images._same(one, one.replace("0.9", "0.8")) and not own_images._same(one, one.replace(",a,", ",b,"))


def test_nothing_is_promised_from_a_few_groups(model, tmp_path, capsys):
    """Twelve images of one patient are not twelve independent ones."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    table = pd.read_csv(copy / "out_of_fold.csv")
    own = table["label"] == "kind 0"
    few = np.where(own, [f"g{i % 9}" for i in range(len(table))], table["group"])
    table.assign(group=few).to_csv(copy / "out_of_fold.csv", index=False)
    asked = [str(copy), "--class", "kind 0", "--sensitivity", "0.5"]
    assert threshold.main(asked) == 1
    assert (
        "cannot be promised: the 60 tested images of kind 0 are of 9 groups, and a promise needs 10; --anyway"
        in capsys.readouterr().err
    )
    assert threshold.main([*asked, "--anyway"]) == 0
    assert (
        "sensitivity of 50 % cannot be promised: the 60 tested images of kind 0 are of 9 groups"
        in capsys.readouterr().out
    )
    assert not json.loads((copy / "model.json").read_text())["decision"]["promised"]
    assert threshold.main([str(copy), "--class", "kind 0", "--specificity", "0.5"]) == 0  # of others, in 30 groups
    table.assign(group=np.where(own, [f"g{i % 10}" for i in range(len(table))], table["group"])).to_csv(
        copy / "out_of_fold.csv", index=False
    )
    assert threshold.main(asked) == 0
    capsys.readouterr()


def test_a_promise_of_images_that_are_alike_in_groups_is_said_to_be_of_fewer(model, tmp_path, capsys):
    """Sixty images of twenty patients, three of each with one probability: they count as twenty, and twenty of twenty
    have a lower bound of 0.84."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    table = pd.read_csv(copy / "out_of_fold.csv").head(120)
    table["label"] = np.where(np.arange(120) < 60, "kind 0", "kind 1")
    table["p_kind 0"] = np.where(table["label"] == "kind 0", 0.4 + 0.01 * (np.arange(120) % 20), 0.1)
    for grouped in (True, False):
        table["group"] = [f"g{i % 20 if grouped or i >= 60 else i}" for i in range(120)]
        table.to_csv(copy / "out_of_fold.csv", index=False)
        counted = " (they count as 20: images of one group are alike)" if grouped else ""
        for promise, wanted in ((0.9, 1 if grouped else 0), (0.8, 0)):
            assert threshold.main([str(copy), "--class", "kind 0", "--sensitivity", str(promise)]) == wanted
            out, error = capsys.readouterr()
            if wanted:
                assert f"from 60 tested images{counted}; it takes 35 independent ones or more" in error
            else:
                bound = json.loads((copy / "model.json").read_text())["decision"]["thresholds"]["kind 0"]
                found = 3 * int((0.4 + 0.01 * np.arange(20) >= bound).sum())
                low, high = wilson_interval(found / 60, 20.0 if grouped else 60)
                said = (
                    f"[{100 * low:.1f}, {100 * high:.1f}]: {found} of 60 out-of-fold images of kind 0 found{counted}\n"
                )
                assert said in out
                assert low >= promise
        assert f"found{counted}" in (copy / "report" / "index.html").read_text()


def test_a_promised_specificity_knows_the_groups_of_the_other_images(model, tmp_path, capsys):
    """Sixty others of twenty patients count as twenty; the sixty of the class stand for themselves."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    table = pd.read_csv(copy / "out_of_fold.csv").head(120)
    table["label"] = np.where(np.arange(120) < 60, "kind 0", "kind 1")
    table["p_kind 0"] = np.where(np.arange(120) < 60, 0.9 + 0.001 * np.arange(120), 0.1 + 0.01 * (np.arange(120) % 20))
    table["group"] = [f"g{i if i < 60 else 100 + i % 20}" for i in range(120)]
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--class", "kind 0", "--specificity", "0.9"]) == 1
    said = (
        "specificity of 90 % for kind 0 cannot be promised from 60 tested images (they count as 20: images of one group"
    )
    assert said in capsys.readouterr().err
    table["group"] = [f"g{i}" for i in range(120)]
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--class", "kind 0", "--specificity", "0.9"]) == 0
    capsys.readouterr()


def test_a_promise_that_was_made_of_independent_images_is_said_not_to_be_kept(model, tmp_path, capsys):
    """As a folder has it that is older than the count of groups: 60 of 60 promised 0.9, by patients 20 of 20 do not."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    table = pd.read_csv(copy / "out_of_fold.csv").head(120)
    table["label"] = np.where(np.arange(120) < 60, "kind 0", "kind 1")
    table["p_kind 0"] = np.where(table["label"] == "kind 0", 0.4 + 0.01 * (np.arange(120) % 20), 0.1)
    table["group"] = [f"g{i}" for i in range(120)]
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--class", "kind 0", "--sensitivity", "0.9"]) == 0
    assert "NOT KEPT" not in capsys.readouterr().out
    table["group"] = [f"g{i % 20 if i < 60 else i}" for i in range(120)]
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy)]) == 0
    assert "NOT KEPT: sensitivity of 90 % was promised; set the threshold anew" in capsys.readouterr().out


def test_mistakes_are_shown_as_the_network_sees_them(tmp_path):
    """Sixteen-bit grey of a twelve-bit camera: Pillow's own conversion cuts everything above 255 to white."""
    deep = np.linspace(0, 4095, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    shown = np.asarray(page_of_own_images._readable(str(tmp_path / "deep.png"), 12))
    assert shown.shape == (8, 8, 3) and len(np.unique(shown)) > 50
    (tmp_path / "bad.png").write_bytes(b"none")
    assert page_of_own_images._readable(str(tmp_path / "bad.png"), 16) is None


def test_a_model_that_is_not_there_is_named(capsys):
    assert export.main(["modles/cells"]) == 1
    assert "there is no model folder or run modles/cells" in capsys.readouterr().err


def test_folds_of_other_labels_are_not_taken_for_these(cells, tmp_path, capsys):
    """A wrong label was mended: as many images as before, and none of the old folds' results."""
    (tmp_path / "images").mkdir()
    for file in cells.glob("*.png"):
        shutil.copy(file, tmp_path / "images" / file.name)
    table = pd.read_csv(cells / "cells.csv", dtype=str)
    matrices = []
    for labels in (table["label"], table["label"].replace({"kind 0": "kind 1", "kind 1": "kind 0"})):
        table.assign(label=labels).to_csv(tmp_path / "images" / "cells.csv", index=False)
        assert train.main([
            str(tmp_path / "images" / "cells.csv"), "--folds", "2", "--methods", "erm", "--image-size", "8", "--epochs", "1",
            "--model.widths", "[8]", "--quiet", "--output-dir", str(tmp_path / "runs"), "--models-dir", str(tmp_path),
        ]) == 0  # fmt: skip
        matrices.append(pd.read_csv(tmp_path / "cells" / "out_of_fold.csv")["p_kind 0"])
    assert len(list((tmp_path / "runs").glob("*"))) == 2
    assert not np.allclose(*matrices)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folds", "1"], "--folds must be a whole number >= 2"),
        (["--folds", "many"], "--folds must be a whole number >= 2"),
        (["--folds", "31"], "31 folds need at least as many groups"),
    ],
)
def test_folds_that_make_no_sense_are_refused(cells, tmp_path, arguments, said, capsys):
    assert train.main([str(cells / "cells.csv"), "--image-size", "8", "--quiet", *arguments]) in (2, 3)
    assert said in capsys.readouterr().err


def test_a_trial_does_not_overwrite_a_model(cells, tmp_path, capsys):
    arguments = [str(cells / "cells.csv"), "--dry-run", "--models-dir", str(tmp_path)]
    assert train.main(arguments) == 0 and capsys.readouterr().out.endswith(f"{tmp_path / 'cells'}\n")
    assert train.main([*arguments, "--smoke"]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'cells-smoke'}\n")


def test_a_class_that_is_never_tested_is_said_to_be_unknown(cells, tmp_path, capsys):
    """Its image is no evidence for or against a method; before training the audit's findings are printed."""
    kept = [("0", 12), ("1", 12), ("2", 3), ("3", 1)]
    rows = [(str(cells / f"{c}_{k}.png"), f"kind {c}") for c, n in kept for k in range(n)]
    with (tmp_path / "few.csv").open("w", newline="") as file:
        grouped = [(*row, "slide" if row[1] == "kind 3" or n < 2 else "") for n, row in enumerate(rows)]
        csv.writer(file).writerows([("path", "label", "group"), *grouped])
    arguments = ["--folds", "2", "--methods", "erm", "--image-size", "8", "--epochs", "1", "--model.widths", "[8]"]
    places = ["--output-dir", str(tmp_path / "runs"), "--models-dir", str(tmp_path / "models"), "--jobs", "1"]
    assert train.main([str(tmp_path / "few.csv"), *arguments, *places]) == 0
    said = capsys.readouterr()
    assert "note: classes ['kind 3'] (1 in all) have one training image" in said.err
    assert said.err.index("note: classes") < said.err.index("fold 1") and "no test part" not in said.err
    withheld = (
        "3 images are in every fold's training part, and never tested: all images of kind 3 fell into one fold, which "
        "would have had none of them to train on; 2 are of other classes, in a group with them"
    )
    assert said.err.index(f"note: {withheld}\n") < said.err.index("fold 1")
    notes = json.loads((tmp_path / "models" / "few" / "model.json").read_text())["card"]["notes"]
    assert "classes of which no image was tested, so that nothing is known of their recall: kind 3" in notes
    assert withheld in notes
    few = "fewer than 20 tested images, so no method is chosen by them: kind 0 (10), kind 1 (12), kind 2 (3)"
    assert few in notes and any(
        "of the 25 tested images of these classes together, erm found" in note for note in notes
    )
    assert predict.main([str(tmp_path / "models" / "few"), rows[0][0]]) == 0
    told = capsys.readouterr().err
    assert "note: classes never tested, so nothing is known of how well they are found: kind 3\n" in told
    assert re.search(r"the folds found: kind 0 \d+ of 10, kind 1 \d+ of 12, kind 2 \d of 3\n", told)


def test_an_image_and_its_copies_count_as_a_group(cells, tmp_path):
    """Thirty-six files of twelve images tell as much as twelve images would."""
    for c in range(2):
        for k in range(12 if c else 30):
            for copy in range(3 if c else 1):
                (tmp_path / "copies" / str(c)).mkdir(parents=True, exist_ok=True)
                shutil.copy(cells / f"{c}_{k}.png", tmp_path / "copies" / str(c) / f"{k}_{copy}.png")
    arguments = ["--folds", "2", "--methods", "erm", "--image-size", "8", "--epochs", "4", "--model.widths", "[8]"]
    places = ["--output-dir", str(tmp_path / "runs"), "--models-dir", str(tmp_path / "models"), "--jobs", "1"]
    assert train.main([str(tmp_path / "copies"), *arguments, *places, "--quiet", "--smoke"]) == 0
    folder = tmp_path / "models" / "copies-smoke"
    card = json.loads((folder / "model.json").read_text())["card"]
    assert card["notes"][0].startswith("A TRIAL, not for use") and not any("--epochs" in note for note in card["notes"])
    assert "24 images are copies of others, byte for byte: an image and its copies count as one group" in card["notes"]
    table = pd.read_csv(folder / "out_of_fold.csv")
    assert table.groupby("label")["group"].nunique().to_dict() == {0: 30, 1: 12}
    for row in card["classes"]:
        counted, files = (30, 30) if row["class"] == "0" else (12, 36)
        expected = wilson_interval(row["recall"] / 100, counted)
        shown = f"| {row['class']} | {files} | {files}{'' if files == 30 else ' (as 12)'} |"
        assert row["counted"] == pytest.approx(counted) and shown in (folder / "card.md").read_text()
        np.testing.assert_allclose((row["low"], row["high"]), 100 * np.array(expected), atol=0.01)


def test_another_folder_is_not_overwritten(cells, tmp_path, capsys):
    (tmp_path / "models" / "cells").mkdir(parents=True)
    (tmp_path / "models" / "cells" / "thesis.doc").write_text("mine")
    assert train.main([str(cells / "cells.csv"), "--quiet", "--models-dir", str(tmp_path / "models")]) == 2
    assert "holds something else than a model" in capsys.readouterr().err
    assert train.main([str(cells / "gone.csv"), "--models-dir", str(tmp_path / "other")]) == 3
    assert (
        capsys.readouterr().err == f"train: {cells / 'gone.csv'} does not exist\n"
    )  # before all that is to be compared


def test_a_model_of_other_images_is_not_overwritten(model, cells, tmp_path, capsys):
    """Two folders of one name would write one model; moved or partly new images are those of before."""
    shutil.copytree(model, tmp_path / "models" / "cells")
    weights = (tmp_path / "models" / "cells" / "weights.safetensors").read_bytes()
    for c in (0, 1):
        (tmp_path / "elsewhere" / "cells" / f"kind {c}").mkdir(parents=True)
        for k in range(4):
            turned = Image.open(cells / f"{c}_{k}.png").transpose(Image.Transpose.ROTATE_90)
            turned.save(tmp_path / "elsewhere" / "cells" / f"kind {c}" / f"{k}.png")
    places = ["--output-dir", str(tmp_path / "runs"), "--models-dir", str(tmp_path / "models"), "--quiet"]
    assert train.main([str(tmp_path / "elsewhere" / "cells"), "--folds", "2", *places]) == 2
    told = capsys.readouterr().err
    assert "holds a model of other images: none of the 133 it was trained on is among these 8" in told
    assert not (tmp_path / "runs").exists()  # before anything was trained
    assert (tmp_path / "models" / "cells" / "weights.safetensors").read_bytes() == weights
    shutil.copy(cells / "0_9.png", tmp_path / "elsewhere" / "cells" / "kind 0")
    config = divaug.configure(
        dataset="image_folder", path=str(tmp_path / "elsewhere" / "cells"), image_size=8, profile="natural"
    )
    dealt = folds.deal(config, 2)
    presets = {folds.folder_of(replace(config, vary=vary), dealt, 0).path for vary in ("cut", "init")}
    assert len(presets) == 1  # presets differ in what a seed varies, and here it has no effect
    images = dealt.images
    with pytest.raises(ConfigError, match="only 1 of the 133 it was trained on is among these 9"):
        own_images._refuse_other_images(model, images)
    own_images._refuse_other_images(tmp_path, images)  # no model
    for k in range(6):
        shutil.copy(cells / f"0_{10 + k}.png", tmp_path / "elsewhere" / "cells" / "kind 0")
    with pytest.raises(ConfigError, match="only 7 of the 133 it was trained on are among these 15"):
        own_images._refuse_other_images(model, folds.deal(config, 2).images)
    shutil.copy(cells / "0_16.png", tmp_path / "elsewhere" / "cells" / "kind 0")
    own_images._refuse_other_images(model, folds.deal(config, 2).images)  # 8 of 16


def test_a_models_weights_start_another_whose_head_alone_is_trained(model, cells, tmp_path, capsys):
    arguments = [
        str(cells / "cells.csv"), "--folds", "2", "--model.widths", "[8]", "--epochs", "3", "--train", "head",
        "--weights", str(model / "weights.safetensors"), "--output-dir", str(tmp_path / "runs"),
        "--models-dir", str(tmp_path / "models"), "--progress", "lines",
    ]  # fmt: skip
    assert train.main(arguments) == 0
    assert "strong_tail is left out: it changes images" in capsys.readouterr().err
    old, new = (json.loads((path / "model.json").read_text()) for path in (model, tmp_path / "models" / "cells"))
    assert [row["method"] for row in new["card"]["methods"]] == ["erm", "logit_adjusted", "ros"]
    for key in ("mean", "std", "shape"):  # what the weights were trained with, at their size
        assert new["transform"][key] == old["transform"][key]
    before, after = (load_file(path / "weights.safetensors") for path in (model, tmp_path / "models" / "cells"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert train.main([*arguments, "--methods", "strong_tail"]) == 2
    assert "train head extracts features once" in capsys.readouterr().err


def test_the_page_follows_thresholds_and_needs_no_images(model, cells, tmp_path, capsys):
    """A copied folder whose images are elsewhere; a folder that was written before the audit was kept in it."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    page = copy / "report" / "index.html"
    table = pd.read_csv(copy / "out_of_fold.csv")
    table.assign(path=[f"/nowhere/{i}.png" for i in range(len(table))]).to_csv(copy / "out_of_fold.csv", index=False)
    content = json.loads((copy / "model.json").read_text())
    del content["card"]["audit"]
    (copy / "model.json").write_text(json.dumps(content))
    assert threshold.main([str(copy), "--class", "kind 1", "--sensitivity", "0.5", "--anyway"]) == 0
    assert f"page: {page}" in capsys.readouterr().out
    kept = sorted((model / "report" / "mistakes").glob("*.png"))  # drawn while the images were there
    assert kept and page.read_text().count('<img src="data:image/png') >= len(kept) + 3
    assert [file.name for file in sorted((copy / "report" / "mistakes").glob("*.png"))] == [file.name for file in kept]
    bound = json.loads((copy / "model.json").read_text())["decision"]["thresholds"]["kind 1"]
    own, called = table["label"] == "kind 1", table["p_kind 1"] >= bound
    shares = f"sensitivity {100 * called[own].mean():.1f} % [", f"specificity {100 * (~called)[~own].mean():.1f} % ["
    assert all(f in page.read_text() for f in ("kind 1 from a probability of", *shares))
    assert threshold.main([str(copy), "--clear"]) == 0
    assert "from a probability of" not in page.read_text()
    table.assign(predicted=table["label"]).to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--clear"]) == 0
    assert not list((copy / "report" / "mistakes").iterdir())  # there is no mistake, so none of old is left


def test_the_image_that_alone_sets_a_threshold_is_named(model, tmp_path, capsys):
    """Sixty images at 0.9, one mislabelled at 0.001: with a promise of 0.94 the lower bound needs all sixty."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    table = pd.read_csv(copy / "out_of_fold.csv")
    own = np.flatnonzero(table["label"] == "kind 0")
    table["p_kind 0"] = np.where(table["label"] == "kind 0", 0.4 + 0.001 * np.arange(len(table)), 0.0001)
    table = table.drop(columns="group")  # every image stands for itself
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--class", "kind 0", "--sensitivity", "0.93"]) == 0
    assert "one image sets it" not in capsys.readouterr().out
    table.loc[own[7], "p_kind 0"] = 0.001
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--class", "kind 0", "--sensitivity", "0.93"]) == 0
    assert f"one image sets it: without {table['path'][own[7]]} it would be 0.4" in capsys.readouterr().out


def test_an_image_without_which_nothing_could_be_promised_is_not_blamed(model, tmp_path, capsys):
    """35 images keep a promise of 0.9 only if all are found: with 34 none can be made, whatever the image's label."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    table = pd.read_csv(copy / "out_of_fold.csv").head(100)
    table["label"] = np.where(np.arange(100) < 35, "kind 0", "kind 1")
    table["p_kind 0"] = np.where(table["label"] == "kind 0", 0.3, 0.0)
    table.loc[0, "p_kind 0"] = 0.001
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--class", "kind 0", "--sensitivity", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "kind 0 from a probability of 0.001" in said and "one image sets it" not in said


def test_a_promise_that_another_threshold_breaks_is_said_to_be_broken(model, tmp_path, capsys):
    """Forty images of kind 0 at 0.4, all of which kind 1's threshold takes: alone all are found, together none."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    table = pd.read_csv(copy / "out_of_fold.csv").head(100)
    table["label"] = np.where(np.arange(100) < 40, "kind 0", "kind 1")
    for name in ("kind 2", "kind 3"):
        table[f"p_{name}"] = 0.0
    table = table.drop(columns="group")  # every image stands for itself
    table["p_kind 0"] = np.where(table["label"] == "kind 0", 0.4, 0.1)
    table["p_kind 1"] = np.where(table["label"] == "kind 0", 0.39, 0.3)
    table.to_csv(copy / "out_of_fold.csv", index=False)
    assert threshold.main([str(copy), "--class", "kind 0", "--sensitivity", "0.9"]) == 0
    assert "NOT KEPT" not in capsys.readouterr().out
    assert threshold.main([str(copy), "--class", "kind 1", "--sensitivity", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "kind 0: finds 0 of 40 (40 alone: other thresholds take 40)" in said
    assert "NOT KEPT together with the other thresholds: sensitivity of 90 % for kind 0" in said
    assert "of 90 % for kind 1" not in said and "NOT KEPT" in (copy / "report" / "index.html").read_text()
    assert _promised(copy) == {"kind 0": {"sensitivity": 0.9}, "kind 1": {"sensitivity": 0.9}}
    assert threshold.main([str(copy), "--class", "kind 0", "--cost-miss", "2", "--cost-false", "1"]) == 0
    assert _promised(copy) == {"kind 1": {"sensitivity": 0.9}} and "NOT KEPT" not in capsys.readouterr().out
    assert threshold.main([str(copy), "--class", "kind 1", "--sensitivity", "0.999", "--anyway"]) == 0
    assert _promised(copy) == {}


def test_a_promised_specificity_that_thresholds_of_all_classes_break_is_said_to_be_broken(model, tmp_path, capsys):
    """Every class has a threshold, so an image that reaches none goes to the nearest: kind 0 is called for images that
    its own threshold leaves alone, where that calls 10 of 202."""
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    content = json.loads((copy / "model.json").read_text())
    names = content["classes"][:2]
    table = pd.read_csv(copy / "out_of_fold.csv")
    table = table.loc[np.arange(402) % len(table)].reset_index(drop=True)
    table["label"] = [*np.repeat(names, 200), *content["classes"][2:]]
    for name in content["classes"][2:]:
        table[f"p_{name}"] = (table["label"] == name).astype(float)
    near = np.append(
        np.tile(np.repeat([0.9, 0.45, 0.1], [10, 90, 100]), 2), [0, 0]
    )  # of the other: 10 high, 90 between
    for name in names:
        own = np.where(near == 0.45, 0.44, np.where(near > 0, 1 - near, 0.0))
        table[f"p_{name}"] = np.where(table["label"] == name, own, near)
    table.to_csv(copy / "out_of_fold.csv", index=False)
    for name in names:
        assert threshold.main([str(copy), "--class", name, "--specificity", "0.9"]) == 0
    said = capsys.readouterr().out
    assert said.count("; promised: specificity of 90 % or more") == 2
    assert _promised(copy) == {name: {"specificity": 0.9} for name in names}
    assert "NOT KEPT" not in said  # the other classes have no threshold, so what lies between goes to them
    content = json.loads((copy / "model.json").read_text())
    bounds = {**content["decision"]["thresholds"], **dict.fromkeys(content["classes"][2:], 1.0)}
    content["decision"]["thresholds"] = bounds
    (copy / "model.json").write_text(json.dumps(content))
    assert threshold.main([str(copy)]) == 0
    said = capsys.readouterr().out
    # of kind 0's images 90 are at 0.44, and 0.45 for kind 1, which they are called: 100 of 202 others, not 10
    assert "NOT KEPT together with the other thresholds: specificity of 90 % for kind 1" in said
    assert threshold.main([str(copy), "--abstain", "0.1", "--class", names[0]]) == 2
    assert "give --sensitivity, --specificity, or both costs with it" in capsys.readouterr().err


def _promised(folder):
    """Return what a model folder promises."""
    return json.loads((folder / "model.json").read_text())["decision"]["promised"]

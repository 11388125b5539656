import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from divaug.base.errors import ConfigError, Interrupted
from divaug.base.labels import MixedLabels
from divaug.config import layers
from divaug.config.schema import Component
from divaug.config.tables import protocol_fingerprint
from divaug.data.halves import image_digests
from divaug.data.load import load_data
from divaug.latent.space import CommonSpace
from divaug.models.encoder import Encoder
from divaug.recipes import compare, digits_lt, encoder, fragility
from divaug.runs.embed import encode, encode_views
from divaug.runs.folder import RunFolder, find_runs
from divaug.train.encoder import Rotations, train_encoder

WIDE = ("whitened_cnn", {"widths": [8, 256]})


def extra_label(method, file):
    """A method's label with extra images: the CSV's name and four digits of its content."""
    return f"{method}+extra-train={file.stem}-{hashlib.sha256(file.read_bytes()).hexdigest()[:4]}"


def config(**keys):
    flags = {"profile": "natural", "data_part": "b", "epochs": 1, "batch_size": 128, "model": {"name": WIDE[0], **WIDE[1]},
             "progress": "none", "max_per_class": 20, **keys}  # fmt: skip
    return layers.resolve(recipe={"dataset": "digits"}, flags=flags)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    wanted = config()
    return train_encoder(wanted, load_data(wanted), tmp_path_factory.mktemp("encoders"))


def test_pictures_are_turned_and_the_turn_is_the_label():
    images = torch.rand(3, 1, 5, 5)
    turned, target = Rotations().apply(images, torch.zeros(3, dtype=torch.int64), None)
    assert target.ids[:, 0].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for row, turn in enumerate(target.ids[:, 0].tolist()):
        assert np.array_equal(turned[row].numpy(), np.rot90(images[row % 3].numpy(), turn, (1, 2)))


def test_it_learns_on_half_b_and_remembers_what_it_saw(trained):
    found = Encoder.load(trained)
    data = load_data(config())
    assert len(found.seen) == len(data.train.labels) == found.manifest["pictures"] == 200
    assert trained.name.startswith("digits-b-") and found.dimensions == 256 and not found.backbone.training
    assert 0 < found.manifest["test_accuracy"] < 1 and not any(p.requires_grad for p in found.backbone.parameters())
    mean, std = data.dataset.mean, data.dataset.std
    shape = (8, 8, 1)
    found.fits(shape, mean, std, image_digests(load_data(config(data_part="a")).train))
    with pytest.raises(ConfigError, match=r"trained on 200 of these 200 training images.*--data-part a"):
        found.fits(shape, mean, std, image_digests(data.train))
    found.fits(shape, mean, std, None)
    with pytest.raises(ConfigError, match="another normalisation"):
        found.fits(shape, (0.1,), std, None)
    with pytest.raises(ConfigError, match=r"sees images of \[8, 8, 1\], but these are \[9, 9, 1\]"):
        found.fits((9, 9, 1), mean, std, None)


def test_labels_are_never_looked_at(trained, tmp_path):
    data = load_data(config())
    blind = replace(data, train=replace(data.train, labels=np.roll(data.train.labels, 7)))
    assert train_encoder(config(), blind, tmp_path).name == trained.name  # the name holds a hash of the weights


def test_it_goes_on_bit_exactly_where_it_was_stopped(tmp_path, monkeypatch):
    from divaug.base.signals import StopRequest

    wanted = config(epochs=2)
    data = load_data(wanted)
    whole = train_encoder(wanted, data, tmp_path / "whole")
    asked = iter(range(1000))

    def stop(self):
        if next(asked) == 3:
            self.signal_number = 15
        return self.signal_number is not None

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", stop)
        with pytest.raises(Interrupted):
            train_encoder(wanted, data, tmp_path / "cut")
    assert [p.suffix for p in (tmp_path / "cut").iterdir()] == [".part"]
    assert train_encoder(wanted, data, tmp_path / "cut").name == whole.name
    assert [p.suffix for p in (tmp_path / "cut").iterdir()] == [".pt"]


def test_what_cannot_be_an_encoder_is_refused(tmp_path):
    data = load_data(config())
    with pytest.raises(ConfigError, match="D >= 256, but resnet20 has 64"):
        train_encoder(replace(config(), model=Component("resnet20")), data, tmp_path)
    narrow = config(model={"name": "whitened_cnn", "widths": [8, 16]})
    assert Encoder.load(train_encoder(narrow, data, tmp_path)).dimensions == 256  # the last width is raised
    oblong = replace(data, train=replace(data.train, images=data.train.images[:, :6]))
    with pytest.raises(ConfigError, match="6x8 cannot be rotated"):
        train_encoder(config(), oblong, tmp_path)
    (tmp_path / "bad.pt").write_bytes(b"x")
    torch.save({"a": 1}, tmp_path / "other.pt")
    for name, message in (("bad", "cannot be read"), ("none", "cannot be read"), ("other", "is not an encoder")):
        with pytest.raises(ConfigError, match=message):
            Encoder.load(tmp_path / f"{name}.pt")


def test_the_fingerprint_knows_an_encoder_by_its_name_not_its_folder():
    one, moved, other = (
        protocol_fingerprint(replace(config(), encoder=e)) for e in ("a/x-1.pt", "b/x-1.pt", "a/x-2.pt")
    )
    assert one == moved != other


def test_the_common_space_counts_largest_features(trained):
    found = Encoder.load(trained)
    space = CommonSpace(found, 10, ks=(10, 3), sizes=(5,), device=torch.device("cpu"))
    data = load_data(config(data_part="a"))
    bundle = encode(found, data, "train")
    assert not bundle.has_head and bundle.features.shape == (200, 256)
    images = torch.from_numpy(data.train.images).permute(0, 3, 1, 2).float() / 255
    images = (images - data.dataset.mean[0]) / data.dataset.std[0]
    space.observe(images, MixedLabels.hard(torch.from_numpy(data.train.labels)))
    values = space.monitor.compute()
    clean = space.clean("train", lambda: [(images, torch.from_numpy(data.train.labels))])
    for c in range(10):
        tops = np.argsort(-bundle.features[data.train.labels == c], axis=1, kind="stable")[:, :10]
        assert abs(values["number"][c] - len(np.unique(tops))) <= 1  # rounding of the image's last bits may swap ties
        assert clean["number"][c] == values["number"][c] and "number_top3" in values
    assert space.clean("train", lambda: pytest.fail("computed twice")) is clean


@pytest.mark.usefixtures("no_figures")
def test_a_run_is_measured_beside_and_not_changed(tiny, trained, untimed, monkeypatch, capsys):
    argv = [*tiny, "--method", "cmo", "--data-part", "a", "--more-top-k", "2"]
    assert digits_lt.main(argv) == 0
    assert digits_lt.main([*argv, "--encoder", str(trained), "--experiment", "judged", "--results", "rows.csv"]) == 0
    assert "common m=5" in capsys.readouterr().out
    assert pd.read_csv("rows.csv")["encoder"].tolist() == [trained.name]
    plain, judged = (untimed(Path(f"runs/{e}/cmo/seed0")) for e in ("tiny", "judged"))
    for a, b in zip(plain, judged, strict=True):
        assert {k: v for k, v in b["metrics"].items() if not k.startswith("encoder_")} == a["metrics"]
    assert "encoder_views/rarefied_5_tail" in judged[0]["metrics"] and "views/number_top2_tail" in judged[0]["metrics"]
    assert not any(k.startswith("encoder_") for k in judged[1]["metrics"])  # first, middle and last epoch
    assert (
        judged[0]["metrics"]["encoder_train_clean/number_tail"]
        == judged[3]["metrics"]["encoder_train_clean/number_tail"]
    )

    from divaug.base.signals import StopRequest

    asked = iter(range(1000))

    def stopped(self):
        if next(asked) >= 4:
            self.signal_number = 15
        return self.signal_number is not None

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__call__", stopped)
        assert digits_lt.main([*argv, "--encoder", str(trained), "--experiment", "cut"]) == 143
    assert digits_lt.main([*argv, "--encoder", str(trained), "--experiment", "cut"]) == 0
    assert untimed(Path("runs/cut/cmo/seed0")) == judged  # what the encoder counted of half an epoch is not lost

    assert digits_lt.main([*tiny, "--method", "erm", "--encoder", str(trained)]) == 2  # both halves
    assert "no neutral judge" in capsys.readouterr().err

    assert compare.main(["runs/tiny", "--encoder", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "between_5_views" in out and "cmo" in out
    table = Path("runs/tiny/report/common_space.csv").read_text()
    assert "within_5_views" in table and "coverage_views" in table
    assert compare.main(["nowhere"]) == 1


@pytest.mark.usefixtures("no_figures")
def test_compared_in_the_common_space_runs_have_their_own_extra_pictures(tiny, trained, tmp_path):
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "made.csv").write_text("path,label\n" + "".join(f"{i}.png,8\n" for i in range(3)))
    flags = ["--data-part", "a", "--epochs", "1", "--max-per-class", "20", "--extra-train", str(tmp_path / "made.csv")]
    assert digits_lt.main([*tiny, "--method", "erm", *flags]) == 0
    assert compare.main(["runs", "--encoder", str(trained)]) == 0
    table = pd.read_csv("runs/tiny/report/common_space.csv")
    for of in ("vendi", "within_5_views"):  # of images, and of what was made of them
        n = table[table["measure"] == of].pivot_table(index="class", columns="method", values="n")
        assert (n[extra_label("erm", tmp_path / "made.csv")] - n["erm"]).tolist() == [0] * 8 + [3, 0]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("method", ["cutmix", "cuda", "diverse", "balanced_mixup"])
def test_replayed_views_are_those_that_were_presented(tiny, trained, method):
    flags = ["--method", method, "--data-part", "a", "--encoder", str(trained)]
    assert digits_lt.main([*tiny, *flags, *(["--pixel.threshold", "0.0"] if method == "cuda" else [])]) == 0
    (folder,) = find_runs(["runs"])
    data, rows = load_data(folder.config), folder.metrics.rows()
    levels = {row["epoch"]: row["per_class"]["aug/level"] for row in rows if "aug/level" in row["per_class"]}
    views = encode_views(Encoder.load(trained), folder.config, data, [3], levels)
    seen = rows[3]["per_class"]
    assert views.counts.tolist() == seen["encoder_views/n"]  # mixed views too, by their larger label
    assert method == "balanced_mixup" or sorted(views.images) == list(range(len(data.train.labels)))
    if method == "cuda":  # levels have risen: the same features only if the same images were made
        assert max(levels[3]) >= 2
        for c in range(10):
            top = torch.from_numpy(views.features[views.labels == c]).topk(4)
            assert len(top.indices[top.values > 0].unique()) == seen["encoder_views/number"][c]


def test_a_study_refuses_an_encoder_that_has_seen_its_pictures_before_it_trains(trained, capsys):
    argv = ["--smoke", "--seed", "0", "--methods", "erm", "--quiet", "--tracking", "off", "--encoder", str(trained)]
    assert fragility.main(argv) == 2
    assert "no neutral judge" in capsys.readouterr().err and not list(Path("runs").rglob("config.toml"))
    assert fragility.main([*argv[:-1], "none.pt"]) == 2


@pytest.mark.usefixtures("no_figures")
def test_a_finished_run_is_reported_in_the_common_space_or_refused_before_it_is_measured(
    tiny, trained, capsys, monkeypatch
):
    monkeypatch.setattr("divaug.report.latent._figures", lambda *a: [])
    flags = ["--method", "erm", "--epochs", "1", "--max-per-class", "20"]
    assert digits_lt.main([*tiny, *flags, "--data-part", "b", "--experiment", "b"]) == 0
    assert fragility.main(["runs/b/erm", "--encoder", str(trained)]) == 2
    assert "no neutral judge" in capsys.readouterr().err and not list(Path("runs").rglob("latent"))
    assert digits_lt.main([*tiny, *flags, "--data-part", "a"]) == 0
    assert fragility.main(["runs/tiny/erm", "--encoder", str(trained)]) == 0
    (run,) = find_runs(["runs/tiny"])
    assert f"In the space of {trained.name}" in (run.path / "latent/latent_report.md").read_text()
    data = load_data(run.config)
    alone = encode(Encoder.load(trained), data, "train")
    table = pd.read_csv(run.path / "latent/statistics_encoder.csv")
    shown = table[(table["measure"] == "number") & (table["group"] == "member") & (table["split"] == "train")]
    for (_, row), c in zip(shown.iterrows(), range(10), strict=True):
        top = torch.from_numpy(alone.features[alone.labels == c]).topk(4)
        assert row["value"] == len(top.indices[top.values > 0].unique()) and row["n"] == data.counts[c]


def test_the_recipe(capsys):
    assert (
        encoder.main(["--smoke", "--epochs", "1", "--quiet", "--progress", "none", "--model.widths", "[8, 256]"]) == 0
    )
    out = capsys.readouterr().out.splitlines()
    assert Path(out[0]).exists() and "300 images of half b; rotations predicted:" in out[1]
    assert json.dumps(Encoder.load(out[0]).manifest)


@pytest.mark.usefixtures("no_figures")
def test_partners_are_chosen_in_the_common_space(trained, tiny, monkeypatch):
    flags = [*tiny, "--data-part", "a", "--encoder", str(trained), "--max-per-class", "20", "--epochs", "2"]
    for method in ("diverse", "redundant"):
        assert digits_lt.main([*flags, "--method", method, "--mix.prob", "1.0"]) == 0
    folders = {name: RunFolder(f"runs/tiny/{name}+mix.prob=1.0/seed0") for name in ("diverse", "redundant")}
    rows = {name: folder.metrics.rows() for name, folder in folders.items()}
    for epoch in range(2):  # the same rows and the same classes of donors, other images
        a, b = (rows[name][epoch]["per_class"] for name in ("diverse", "redundant"))
        assert a["aug/rows"] == b["aug/rows"] and a["aug/label_mass"] == b["aug/label_mass"]
        assert rows["diverse"][epoch]["metrics"]["aug/donors_effective"] > 1
    assert rows["diverse"][1]["metrics"]["train/loss"] != rows["redundant"][1]["metrics"]["train/loss"]


@pytest.mark.usefixtures("no_figures")
def test_in_the_common_space_every_seed_is_measured_on_its_own_cut(tiny, trained):
    """With vary cut a seed has its own class order: measured together or alone, a run's numbers are the same."""
    argv = [*tiny, "--method", "erm", "--data-part", "a", "--epochs", "1"]
    assert digits_lt.main([*argv, "--seeds", "0-1"]) == 0
    tables = {}
    for runs in ("runs", "runs/tiny/erm/seed1"):
        assert compare.main([runs, "--encoder", str(trained), "--report", f"report-{len(tables)}"]) == 0
        tables[runs] = pd.read_csv(f"report-{len(tables)}/common_space.csv")
    together, alone = tables.values()
    pd.testing.assert_frame_equal(together[together["seed"] == 1].reset_index(drop=True), alone)
    sizes = together[together["measure"] == "vendi"].pivot_table(index="class", columns="seed", values="n")
    assert (sizes[0] != sizes[1]).any()


def test_an_encoder_learns_from_extra_images_and_on_the_threads_that_are_asked_for(tmp_path, monkeypatch, capsys):
    seen = {}

    def trained_on(config, data, folder):
        seen.update(extra=config.extra_train, counts=data.extra, threads=torch.get_num_threads())
        raise ConfigError("enough")

    monkeypatch.setattr("divaug.train.encoder.train_encoder", trained_on)
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "0.png")
    (tmp_path / "more.csv").write_text("path,label,source\n0.png,8,made\n")
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: seen.get("set", before))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: seen.update(set=n))
    arguments = ["--dataset", "digits", "--max-per-class", "20", "--extra-train", str(tmp_path / "more.csv")]
    assert encoder.main([*arguments, "--threads", "3"]) == 2 and "enough" in capsys.readouterr().err
    assert seen["extra"] == str(tmp_path / "more.csv") and seen["threads"] == 3 and sum(map(len, seen["counts"])) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pixel", "none"], "pixel has no effect"),
        (["--loss", "focal"], "loss has no effect"),
        (["--method", "ros"], "method has no effect"),
        (["--early-size", "6"], "early-size has no effect"),
        (["--model", "timm:resnet10t", "--model.pretrained", "true", "--image-size", "32"], "is trained from scratch"),
    ],
)
def test_what_an_encoder_does_not_learn_from_is_refused(arguments, said, capsys):
    assert encoder.main(["--dataset", "digits", "--max-per-class", "20", "--epochs", "1", *arguments]) == 2
    assert said in capsys.readouterr().err and not Path("runs/encoders").exists()

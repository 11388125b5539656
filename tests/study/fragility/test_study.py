from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from divaug.base.errors import DataError
from divaug.config import layers
from divaug.data.load import load_data
from divaug.latent.embeddings import Embeddings
from divaug.study.fragility.evidence import class_rows, patch_rows, recall_rows
from divaug.study.fragility.patches import patch_of, plant, target_class, with_patch
from divaug.study.fragility.plan import Arm, arms, config_of
from divaug.study.fragility.study import collect, protocol_of, read


def base(seed=0, method="erm", **flags):
    return layers.resolve(
        recipe={"dataset": "digits"},
        flags={"method": method, "seed": seed, "epochs": 1, "imbalance_factor": 5.0, "max_per_class": 20,
               "model": {"name": "whitened_cnn", "widths": [16]}, "output_dir": "runs", **flags},
    )  # fmt: skip


def bundle(seed=0, n=60, d=16, c=4, lift=None):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % c
    weight = np.random.default_rng(9).normal(size=(c, d))
    features = np.maximum(rng.normal(size=(n, d)) + 0.6 * weight[labels], 0)
    if lift is not None:
        features[:, lift] += 5
    return Embeddings(features, labels, tuple("abcd"), weight, np.zeros(c), features @ weight.T)


def test_the_plan():
    planned = arms(["erm", "focal"])
    assert len({arm.name for arm in planned}) == len(planned) == 6 + 2 + 8
    assert planned[0] == Arm("erm", "exp") and sum(bool(arm.planted) for arm in planned) == 8
    assert Arm("erm", "exp", planted="rare", share=0.3).name == "erm_exp_patch-rare-30"


def test_arms_of_one_seed_share_all_that_they_do_not_differ_in():
    plain, other_seed, other_data, balanced = (
        config_of(arm, base(3)) for arm in
        (Arm("erm", "exp"), Arm("erm", "exp", "seed"), Arm("erm", "exp", "data"), Arm("erm", "balanced"))
    )  # fmt: skip
    assert plain.class_order == balanced.class_order == "permuted:3" and plain.seed == balanced.seed == 3
    assert (other_seed.seed, other_seed.split_seed) == (1003, 3) and (other_data.seed, other_data.split_seed) == (
        3,
        1003,
    )
    cuts = [load_data(config).cut for config in (plain, other_seed, other_data, balanced)]
    assert cuts[0].sha256 == cuts[1].sha256 != cuts[2].sha256
    assert (cuts[0].counts == cuts[2].counts).all() and (cuts[0].group_counts == cuts[3].group_counts).all()
    assert set(cuts[0].indices) <= set(cuts[3].indices)  # nested: the long-tailed cut is a part of the balanced one


def test_rows_of_another_pipeline_under_one_name_are_other_rows(tmp_path):
    import albumentations

    protocols = []
    for p in (0.5, 0.9, 0.5):
        albumentations.save(albumentations.Compose([albumentations.HorizontalFlip(p=p)]), tmp_path / "p.json")
        config = base(pixel={"name": "albumentations", "file": str(tmp_path / "p.json")})
        protocols.append(protocol_of(config, ""))
    assert protocols[0] == protocols[2] != protocols[1]
    assert "files" not in protocol_of(base(), "")  # the committed rows keep their names


def test_a_patch_is_a_small_chequerboard_inside_the_picture():
    for size in (8, 28, 32):
        images = np.full((2, size, size, 3), 100, dtype=np.uint8)
        planted = plant(images)
        rows, columns = patch_of(size, size)
        side = rows.stop - rows.start
        assert side == max(2, size // 8) and rows.stop < size
        changed = (planted != images).any((0, 3))
        assert changed.sum() == side * side and changed[rows, columns].all()
        assert (images == 100).all()  # a copy
        assert set(np.unique(planted[:, rows, columns])) == {0, 255}


def test_shares_are_of_one_class_and_nested():
    data = load_data(config_of(Arm("erm", "exp"), base()))
    for which in ("rare", "frequent"):
        c = target_class(data, which)
        before = set()
        for share in (0.0, 0.5, 1.0):
            planted = with_patch(data, which, share, 0)
            changed = np.flatnonzero((planted.train.images != data.train.images).any((1, 2, 3)))
            members = np.flatnonzero(data.train.labels == c)
            # An image whose corner happens to be the chequerboard already would not count; digits have none.
            assert len(changed) == round(share * len(members)) and set(changed) <= set(members)
            assert before <= set(changed)
            before = set(changed)
    assert data.counts[target_class(data, "frequent")] == 20
    assert target_class(data, "rare") in np.argsort(data.counts)[:3]
    assert "a patch is planted in" in with_patch(data, "rare", 0.5, 0).notes[-1]


def test_the_patchs_features_are_found_without_the_head():
    train, clean, patched = bundle(0), bundle(1), bundle(1, lift=7)
    rise = np.zeros(16)
    rise[7] = 5 / clean.features[:, 7].std()  # nothing else changes: the lifted feature, then the first indices
    features = np.argsort(-rise, kind="stable")[:3]
    assert features.tolist() == [7, 0, 1]
    for c, found in patch_rows(train, clean, patched, [0, 2]).items():
        top = np.argsort(-train.contributions(train.rows(c, "TP")).mean(0), kind="stable")[:10]
        assert found["patch_in_top"] == pytest.approx(np.isin(features, top).mean())
        others = clean.labels != c
        assert found["patch_draws_others"] == pytest.approx(
            (patched.predictions[others] == c).mean() - (clean.predictions[others] == c).mean()
        )


def test_evidence_of_classes_is_brought_to_one_size():
    rows = class_rows(bundle(), match=5)
    assert set(rows) == {0, 1, 2, 3}
    for found in rows.values():
        assert found["n"] == 15 and found["rarefied_5"] <= found["number_raw"] and np.isnan(found["rarefied_20"])
        assert found["effective_matched"] <= found["effective_raw"] + 1e-9
    assert np.isnan(class_rows(bundle(), match=16)[0]["effective_matched"])
    assert set(class_rows(bundle(), 5, prefix="untrained_")[0]) == {f"untrained_{name}" for name in rows[0]}


def test_identical_train_and_test_pictures_show_no_difference():
    found = recall_rows(bundle(), bundle())
    for row in found.values():
        assert (row["ce_loss"], row["fe_loss"], row["shape_distance"], row["gap_raw"]) == pytest.approx((0, 0, 0, 0))
        assert row["train_recall"] == row["test_recall"] and {"lost_top_1", "lost_matched_5"} <= set(row)


def test_a_study_goes_on_from_its_table(monkeypatch):
    monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})  # a second a run
    planned, bases, file = arms(["erm"], ["exp"], [0.9])[:2], [base(0), base(1)], Path("out/evidence.csv")
    said = []
    table = collect(planned, bases, file, say=said.append)
    assert len(table) == 4 * 10 and said[0] == "0 of 4 runs are in evidence.csv" and len(said) == 5
    before = file.read_bytes()
    again = collect(planned, bases, file, say=said.append)
    assert said[-1] == "4 of 4 runs are in evidence.csv" and len(again) == 40 and file.read_bytes() == before
    file.rename("elsewhere.csv")
    more = collect(planned, [*bases, base(2)], file, [Path("elsewhere.csv")], say=said.append)
    assert said[-3] == "4 of 6 runs are in evidence.csv" and len(more) == 60 and len(read(file)) == 60
    collect(planned, [base(0, lr=0.01)], file, say=said.append)  # another protocol: nothing of the table counts
    assert said[-3] == "0 of 2 runs are in evidence.csv"
    pd.testing.assert_frame_equal(read(file).head(40), read(Path("elsewhere.csv")).head(40))


def test_rows_of_a_method_with_other_options_are_not_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    planned, file = [Arm("focal", "exp")], Path("evidence.csv")
    plain, changed = base(0, "focal"), base(0, "focal", loss={"name": "focal", "gamma": 5.0})
    assert protocol_of(changed, "") == protocol_of(plain, "") + "+loss.gamma=5.0"
    first = collect(planned, [plain], file)
    said = []
    other = collect(planned, [changed], file, say=said.append)
    assert said[0].startswith("0 of 1 runs") and len(first) == len(other)
    assert set(other["protocol"]) == {protocol_of(changed, "")} and set(first["protocol"]) == {protocol_of(plain, "")}


def test_a_table_that_is_none_is_refused():
    Path("x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="not a table of evidence"):
        read(Path("x.csv"))
    with pytest.raises(DataError, match="cannot be read"):
        read(Path("none.csv"))


def test_rows_of_other_own_images_are_not_of_these(monkeypatch, tmp_path):
    """The same CSV with a label mended: the protocol is the same, the data are not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})
    rng, rows = np.random.default_rng(0), []
    for i in range(80):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]}")
    own = {"dataset": "csv", "path": "own.csv", "image_size": 8, "min_steps": 0}
    arm, file, said = Arm("erm", "exp"), Path("evidence.csv"), []
    for changed, done in ((rows, 0), (rows, 1), ([rows[0].replace(",a", ",b"), *rows[1:]], 0)):
        Path("own.csv").write_text("path,label\n" + "\n".join(changed) + "\n")
        with nullcontext() if changed is rows else pytest.raises(DataError, match="a run with other data"):
            table = collect([arm], [base(0, **own)], file, say=said.append)
        assert [line for line in said if "runs are in" in line][-1] == f"{done} of 1 runs are in evidence.csv"
    Path("mine.py").write_text("x = 1\n")
    protocols = set()
    for code in ("x = 1\n", "x = 2\n"):
        Path("mine.py").write_text(code)
        monkeypatch.setattr("divaug.runs.own_files.code_of", lambda item: sha256(Path(item).read_bytes()).hexdigest())
        protocols.add(protocol_of(base(0, **own, imports=("mine.py",)), "1"))
    assert len(protocols) == 2  # other code is another study
    other = collect([arm], [base(0, **own, output_dir="elsewhere")], Path("other.csv"), [file])
    assert len(table) == len(other) == 2 and all("+data=" in protocol for protocol in table["protocol"])
    assert set(table["protocol"]).isdisjoint(other["protocol"])

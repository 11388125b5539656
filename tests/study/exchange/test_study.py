"""A study of digits from its file to its rows: what each run is trained and measured on, and what is never done twice."""

import json
import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest

from divaug.base.metrics import prior_corrected
from divaug.study.exchange import block
from divaug.study.exchange.cut import CutImages
from divaug.study.exchange.plan import read_plan
from divaug.study.exchange.rows import COLUMNS, KEYS, add_row, packed, read_rows, unpacked
from divaug.study.exchange.study import progress_of, rows_of, run_study
from divaug.train.build import device_name, find_device

PLAN = """
title = "digits"
analysis = 1
[preset]
preset = "fast"
model = {{ name = "whitened_cnn", widths = [4, 8] }}
batch_size = 50
lr = 0.1
precision = "fp32"
[encoders]
digits = [{encoders}]
[[design]]
dataset = "digits"
name = "longtailed"
cuts = "0-1"
n = 8
heads = 30
kinds = 4
steps = 64
arms.A = {{ number = 1.0, breadth = 0.5 }}
arms.D = {{ number = 2.0, breadth = 1.0 }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoders):
    root = tmp_path_factory.mktemp("study")
    (root / "encoders").mkdir()
    files = [encoder.save(root / "encoders" / f"digits-{i}") for i, encoder in enumerate(encoders)]
    (root / "plan.toml").write_text(PLAN.format(encoders=", ".join(f'"encoders/{file.name}"' for file in files)))
    return root


@pytest.fixture(scope="module")
def done(folder):
    plan = read_plan(folder / "plan.toml")
    said = []
    run_study(plan, folder / "runs", say=said.append)
    return plan, read_rows(rows_of(plan, "digits")), said


def test_every_arm_of_every_cut_has_one_row(done):
    plan, rows, said = done
    assert list(rows.columns) == list(COLUMNS)
    assert sorted(zip(rows["arm"], rows["cut"], strict=True)) == [("A", 0), ("A", 1), ("D", 0), ("D", 1)]
    assert set(rows["status"]) == {"ok"} and set(rows["prereg"]) == {plan.prereg}
    assert len(said) == 2 and "cut 0: 2 of 2 arms" in said[0]
    expected = {"n": {"A": 8, "D": 16}, "breadth": {"A": 2, "D": 4}}
    for column, by_arm in expected.items():
        assert dict(zip(rows["arm"], rows[column], strict=True)) == by_arm
    for column, value in {"G": 4, "steps_rule": "steps 64", "method": "erm", "augmentation": "default"}.items():
        assert set(rows[column]) == {value}
    assert (rows["seed"] == rows["cut"]).all()
    assert set(rows["precision"]) == {"fp32"}
    assert set(rows["device"]) == {device_name(find_device("auto"))}
    # 5 x 30 + 5 x 8 = 190 images are 4 steps of 50 (40 left over), 5 x 30 + 5 x 16 = 230 are 5 (30 left over).
    assert dict(zip(rows["arm"], rows["steps"], strict=True)) == {"A": 64, "D": 65}
    assert dict(zip(rows["arm"], rows["epochs"], strict=True)) == {"A": 16, "D": 13}


def test_a_finished_study_trains_nothing(done, folder):
    plan, rows, _ = done
    said = []
    run_study(plan, folder / "elsewhere", say=said.append)  # known by its rows: run folders may be gone
    assert said == []
    pd.testing.assert_frame_equal(read_rows(rows_of(plan, "digits")), rows)


def test_a_row_holds_what_its_run_measured(done, folder, source, encoders):
    """Recomputed from the run's folder: the images trained on, and the recalls of the test images' logits."""
    plan, rows, _ = done
    row = rows[(rows["arm"] == "A") & (rows["cut"] == 1)].iloc[0]
    where = folder / "runs" / plan.prereg / "digits-longtailed" / "A" / "cut1"
    images = CutImages(source, plan.designs[0], 1, encoders)
    arm = plan.designs[0].arms["A"]
    manifest = json.loads((where / "manifest.json").read_text())
    train = source.dataset.train.take(images.training(arm))
    assert manifest["train_sha256"] == train.sha256
    assert manifest["test_sha256"] == source.dataset.test.sha256
    counts = np.bincount(train.labels, minlength=10)
    assert manifest["counts"] == manifest["group_counts"] == counts.tolist()
    assert tomllib.loads((where / "config.toml").read_text())["counts"] == counts.tolist()
    outputs = np.load(where / "test_outputs.npz")
    labels, logits = outputs["labels"], outputs["logits"]
    recalls, tau = prior_corrected(labels, logits, counts / counts.sum())
    tails = images.manipulated
    heads = [c for c in range(10) if c not in tails]
    raw = [(logits[labels == c].argmax(1) == c).mean() for c in range(10)]
    for column, value in {
        "tail_prior_corrected": recalls[tails].mean(), "head_prior_corrected": recalls[heads].mean(),
        "prior_corrected": recalls.mean(), "balanced_accuracy": np.mean(raw), "tau": tau,
    }.items():  # fmt: skip
        assert row[column] == pytest.approx(value, rel=1e-5), column
    assert row["data"] == source.identity and row["encoder"] == plan.encoder_files("digits")[0].stem
    assert row["vendi_u"] == pytest.approx(images.measures(arm)["vendi_u"], rel=1e-4)
    correct = pd.read_csv(rows_of(plan, "digits").with_name("correct.csv"), dtype={"prereg": str})
    own = correct[(correct["arm"] == "A") & (correct["cut"] == 1)].iloc[0]
    bits = unpacked(own["correct"], int(own["images"]))
    tested = labels[np.isin(labels, tails)]
    assert len(bits) == len(tested) and 0.1 < bits.mean() < 1
    by_class = [bits[tested == c].mean() for c in tails]
    assert np.mean(by_class) == pytest.approx(row["tail_prior_corrected"], abs=0.01)  # halves of odd classes differ
    kept = images.kept()[np.isin(labels, tails)]
    for column, side in (("recall_kept", 1.0), ("recall_withheld", 0.0)):
        groups = [bits[(tested == c) & (kept == side)] for c in tails]
        assert row[column] == pytest.approx(np.mean([g.mean() for g in groups if len(g)]), rel=1e-5)


def test_rows_of_another_preregistration_do_not_count(done, folder):
    plan, _, _ = done
    other = folder / "other.toml"
    other.write_text((folder / "plan.toml").read_text().replace('"digits"\nanalysis', '"changed"\nanalysis'))
    changed = read_plan(other)
    assert changed.prereg != plan.prereg
    assert progress_of(changed)[["planned", "done", "left"]].iloc[0].tolist() == [4, 0, 4]
    assert progress_of(plan)[["planned", "done", "left"]].iloc[0].tolist() == [4, 4, 0]


def test_a_run_that_fails_is_a_row_is_repeated_once_and_stops_nothing(folder, tmp_path, monkeypatch):
    from divaug.base.errors import DivaugError

    shutil.copytree(folder / "encoders", tmp_path / "encoders")
    text = (folder / "plan.toml").read_text().replace("steps = 64", "steps = 4")
    (tmp_path / "plan.toml").write_text(text)
    plan, real, tried = read_plan(tmp_path / "plan.toml"), block.run, []

    def fails(config, where, data):
        tried.append(where.path.parent.name + where.path.name)
        if "A/cut0" in str(where.path):
            raise DivaugError("the gradient is not finite\nin epoch 1")
        return real(config, where, data)

    monkeypatch.setattr(block, "run", fails)
    for times in (1, 2, 2):
        run_study(plan, tmp_path / "runs")
        rows = read_rows(rows_of(plan, "digits"))
        failed = rows[rows["status"] == "failed"]
        assert len(failed) == times and set(failed["reason"]) == {"the gradient is not finite in epoch 1"}
        assert tried.count("Acut0") == times
        assert progress_of(plan)["left"].item() == (1 if times == 1 else 0)
    found = progress_of(plan).iloc[0]
    assert found[["done", "failed", "repeated", "left"]].tolist() == [3, 2, 0, 0]
    monkeypatch.setattr(block, "run", real)
    table = rows_of(plan, "digits").read_text().splitlines()
    rows_of(plan, "digits").write_text(
        "\n".join([line for line in table if "failed" not in line] + [failed_line(table)]) + "\n"
    )
    run_study(plan, tmp_path / "runs")
    found = progress_of(plan).iloc[0]
    assert found[["done", "failed", "repeated", "left"]].tolist() == [4, 1, 1, 0]


def failed_line(lines):
    return next(line for line in lines if "failed" in line)


def test_rows_are_appended_and_nothing_before_is_touched(tmp_path):
    path = tmp_path / "results" / "runs.csv"
    row = dict.fromkeys(KEYS, "x") | {"cut": 1, "seed": 1, "tau": 1 / 3}
    add_row(path, row, np.array([True, False, True]))
    first = path.read_bytes()
    add_row(path, row | {"cut": 2})
    assert path.read_bytes().startswith(first)
    assert read_rows(path)["cut"].tolist() == [1, 2]
    assert path.with_name("correct.csv").read_text().count("\n") == 2


@pytest.mark.parametrize("images", [1, 8, 13, 5000])
def test_packed_booleans_come_back(images):
    bits = np.random.default_rng(images).random(images) < 0.5
    np.testing.assert_array_equal(unpacked(packed(bits), images), bits)


def test_a_plan_that_was_edited_since_is_refused(done, folder):
    from divaug.base.errors import ConfigError

    with pytest.raises(ConfigError, match="has changed since the study began"):
        block.run_block(
            folder / "plan.toml", "0" * 12, "digits/longtailed", 0, folder / "runs", rows_of(done[0], "digits")
        )


def test_two_processes_do_not_work_on_one_cut_and_no_result_is_written_twice(done, tmp_path):
    from divaug.base.errors import DataError, DivaugError
    from divaug.base.files import exclusive

    plan = done[0]
    rows = tmp_path / "runs.csv"
    lock = tmp_path / f".{plan.prereg}-digits-longtailed-1.lock"
    with exclusive(lock, wait=False), pytest.raises(DivaugError, match="is in use by process"):
        block.run_block(plan.path, plan.prereg, "digits/longtailed", 1, tmp_path / "runs", rows)
    assert not rows.exists()
    row = dict.fromkeys(KEYS, "x") | {"cut": 1, "seed": 1, "status": "ok"}
    add_row(rows, row)
    with pytest.raises(DataError, match="has a result of arm x, cut 1 already"):
        add_row(rows, row)
    rows.write_text(rows.read_text() + rows.read_text().splitlines()[1] + "\n")
    with pytest.raises(DataError, match="two results of x x x, arm x, cut 1"):
        read_rows(rows)


def test_a_cut_is_not_finished_with_other_kinds(done, folder, tmp_path):
    """Another machine may find other clusters: a cut's narrow arms must share theirs."""
    from divaug.base.errors import DataError

    plan, rows, _ = done
    assert rows["kinds"].nunique() == 2 and rows.groupby("cut")["kinds"].nunique().tolist() == [1, 1]
    other = rows[(rows["cut"] == 0) & (rows["arm"] == "A")].assign(kinds="ffffffff")
    other.to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(DataError, match="kinds of cut 0 are not those that it was begun with"):
        block.run_block(plan.path, plan.prereg, "digits/longtailed", 0, tmp_path / "runs", tmp_path / "runs.csv")


def test_rows_of_before_a_column_was_added_are_read_and_kept(done, tmp_path):
    _, rows, _ = done
    rows.drop(columns=["kinds", "config"]).to_csv(tmp_path / "runs.csv", index=False)
    found = read_rows(tmp_path / "runs.csv")
    assert set(found["kinds"]) == {""} and found["tau"].tolist() == rows["tau"].tolist()
    add_row(tmp_path / "runs.csv", dict.fromkeys(KEYS, "x") | {"cut": 9, "seed": 9, "kinds": "abc", "status": "ok"})
    again = read_rows(tmp_path / "runs.csv")
    assert again["kinds"].tolist() == ["", "", "", "", "abc"] and again["tau"].tolist()[:4] == rows["tau"].tolist()


def test_rows_say_which_configuration_was_run(done):
    """Both arms of a cut have the same configuration but for the images' counts and epochs; no two are one."""
    _, rows, _ = done
    assert rows.groupby("arm")["config"].nunique().max() <= 2 and (rows["config"].str.len() == 8).all()


def test_variables_that_would_change_runs_are_refused(done, monkeypatch):
    from divaug.base.errors import ConfigError

    plan = done[0]
    for key in ("PIXEL", "WEIGHTS", "GROUP_COLUMN"):  # the last two are in no fingerprint
        monkeypatch.setenv(f"DIVAUG_{key}", "none")
        with pytest.raises(ConfigError, match=f"DIVAUG_{key} is set"):
            read_plan(plan.path)
        monkeypatch.delenv(f"DIVAUG_{key}")
    monkeypatch.setenv("DIVAUG_DEVICE", "cpu")
    assert read_plan(plan.path).prereg == plan.prereg


def test_a_data_set_without_encoders_is_named_before_anything_is_run(folder, tmp_path):
    from divaug.base.errors import ConfigError

    text = (folder / "plan.toml").read_text()
    (tmp_path / "plan.toml").write_text(text[: text.index("[encoders]")] + text[text.index("[[design]]") :])
    with pytest.raises(ConfigError, match="encoders names none for digits"):
        run_study(read_plan(tmp_path / "plan.toml"), tmp_path / "runs")


OTHERS = """
[[design]]
dataset = "digits"
name = "balanced"
cuts = "0"
n = 8
kinds = 4
steps = 4
REFUSE
arms.low = { number = 1.0, dose = "low" }
arms.one = { number = 1.0, options = { pixel = "none" } }
arms.diverse = { number = 1.0, method = "diverse", options = { encoder = "@", pixel = "none" } }
"""


@pytest.mark.parametrize(("refuse", "status"), [("refuse = 1e-6", "refused"), ("refuse = 9.0", "ok"), ("", "ok")])
def test_arms_that_are_out_of_balance_are_refused_before_training(folder, tmp_path, refuse, status):
    shutil.copytree(folder / "encoders", tmp_path / "encoders")
    text = (folder / "plan.toml").read_text().split("[[design]]", maxsplit=1)[0] + OTHERS.replace("REFUSE", refuse)
    if status == "refused":  # once is enough for the arms that never are
        text = text.replace("arms.diverse", "# arms.diverse")
    else:
        text = text.replace("arms.one", "# arms.one")
    (tmp_path / "plan.toml").write_text(text)
    plan = read_plan(tmp_path / "plan.toml")
    run_study(plan, tmp_path / "runs")
    run_study(plan, tmp_path / "runs")
    rows = read_rows(rows_of(plan, "digits")).set_index("arm")
    assert rows["status"].to_dict() == {"low": status, rows.index.drop("low")[0]: "ok"}
    if status == "refused":
        assert rows.loc["low", "reason"].startswith("its images differ from the pool by 0.")
        assert rows.loc["one", "augmentation"] == "pixel=none"
        assert progress_of(plan)[["done", "refused", "left"]].iloc[0].tolist() == [1, 1, 0]
    else:
        trained = tmp_path / "runs" / plan.prereg / "digits-balanced" / "diverse" / "cut0" / "config.toml"
        assert plan.encoder_files("digits")[0].name in trained.read_text()

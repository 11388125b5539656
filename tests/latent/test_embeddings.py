import json
import subprocess
import sys

import numpy as np
import pytest

from divaug.base.errors import DataError
from divaug.latent.embeddings import Embeddings

from .golden import CE_PRED, LABELS, LOGITS, PRED, RUNNER_UP, B, F, W, bundle, random_bundle


def test_golden_groups():
    ours = bundle()
    assert ours.predictions.tolist() == PRED.tolist()
    found = {c: {g: ours.rows(c, g).tolist() for g in ("member", "TP", "FN", "FP")} for c in range(3)}
    assert found == {
        0: {"member": [0, 1], "TP": [0, 1], "FN": [], "FP": [5]},
        1: {"member": [2, 3], "TP": [2], "FN": [3], "FP": []},
        2: {"member": [4, 5], "TP": [4], "FN": [5], "FP": [3]},
    }


def test_groups_partition_the_pictures_whatever_their_order():
    ours = random_bundle(n=300)
    for c in range(4):
        tp, fn, fp = (set(ours.rows(c, g).tolist()) for g in ("TP", "FN", "FP"))
        assert tp | fn == set(np.flatnonzero(ours.labels == c)) and not tp & fn
        assert tp | fp == set(np.flatnonzero(ours.predictions == c)) and not tp & fp


def test_golden_contributions_and_rivals():
    ours, every = bundle(), np.arange(6)
    assert ours.contributions(every, "pred") == pytest.approx(CE_PRED)
    assert ours.contributions(every) == pytest.approx(F * W[LABELS])
    assert ours.rivals(every, "pred") == pytest.approx(RUNNER_UP)
    for c in range(3):
        assert ours.contributions(every, c).sum(1) + B[c] == pytest.approx(LOGITS[:, c])


@pytest.mark.parametrize("cosine", [False, True])
def test_scale_times_contributions_and_bias_are_the_logits(cosine):
    ours = random_bundle(cosine=cosine).verify()
    every = np.arange(60)
    bias = 0 if ours.bias is None else ours.bias
    for c in range(4):
        total = ours.scale * ours.contributions(every, c).sum(1) + (bias[c] if not cosine else 0)
        np.testing.assert_allclose(total, ours.logits[:, c], rtol=1e-9)


def test_an_encoders_space_has_features_and_no_predictions():
    ours = bundle(weight=None, bias=None, logits=None)
    assert not ours.has_head and ours.verify() is ours
    assert ours.contributions(np.arange(6)) == pytest.approx(F)
    assert ours.rows(0).tolist() == [0, 1]
    with pytest.raises(DataError, match="only group='member' exists"):
        ours.rows(0, "TP")


def test_saved_and_loaded_it_is_the_same(tmp_path):
    ours = random_bundle(cosine=True, class_counts=(9, 8, 7, 6), split="test", origin={"run": "x"},
                         images=np.arange(60) // 2)  # fmt: skip
    path = ours.save(tmp_path / "e")
    again = Embeddings.load(path)
    for name in ("features", "labels", "weight", "logits", "images"):
        assert np.array_equal(getattr(again, name), getattr(ours, name))
    assert again.bias is None and again.cosine and again.scale == 30.0
    assert (again.class_names, again.class_counts, again.split, again.origin) == (
        ours.class_names, ours.class_counts, "test", {"run": "x"},
    )  # fmt: skip
    assert {p.name for p in tmp_path.iterdir()} == {"e.npz", "e.json"}


def test_damage_is_found(tmp_path):
    path = bundle().save(tmp_path / "e")
    manifest = json.loads((tmp_path / "e.json").read_text())
    (tmp_path / "e.json").write_text(json.dumps({**manifest, "shapes": {}}))
    with pytest.raises(DataError, match="do not belong together"):
        Embeddings.load(path)
    bundle().save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        Embeddings.load(path)
    with pytest.raises(DataError, match="cannot be read"):
        Embeddings.load(tmp_path / "none")


def test_nothing_is_unpickled(tmp_path):
    path = bundle().save(tmp_path / "e")
    np.savez(path, features=np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="allow_pickle=False"):
        Embeddings.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": W[:, :3]}, r"weight has shape \(3, 3\), expected \(3, 4\)"),
        ({"logits": None}, "a head has weight and logits"),
        ({"labels": LABELS + 1}, "labels 1 to 3 for 3 classes"),
        ({"features": np.where(F == 2, np.nan, F)}, "not finite"),
        ({"class_counts": (1, 2)}, "2 class counts for 3 classes"),
    ],
)
def test_bad_bundles_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        bundle(**changes)


def test_a_dropped_or_shifted_feature_column_is_found():
    # The authors' scripts write features from one column on and read them from the next: 63 of 64 arrive.
    with pytest.raises(DataError, match="the logits are not"):
        bundle(features=np.roll(F, 1, axis=1)).verify()
    with pytest.raises(DataError, match="the logits are not"):
        bundle(logits=LOGITS + 0.5).verify()


def test_features_below_zero_are_detected():
    assert bundle().nonnegative and not bundle(features=F - 0.1).nonnegative


def test_a_part_keeps_its_groups():
    ours = random_bundle(counts=[30, 20, 8, 2])
    part = ours.take(ours.labels != 0)
    assert part.terciles == ours.terciles == ["head", "head", "mid", "tail"]
    assert part.counts.tolist() == [0, 20, 8, 2] and len(part.rows(0)) == 0


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="group must be one of"):
        bundle().rows(0, "false positives")
    with pytest.raises(ValueError, match="ce_class must be"):
        bundle().contributions(np.arange(6), "truth")
    with pytest.raises(ValueError, match="ce_class must be"):
        bundle().contributions(np.arange(6), 3)


def test_bundles_are_measured_without_torch(tmp_path):
    random_bundle(n=200).save(tmp_path / "a")
    code = (
        "import sys; from divaug.latent import Embeddings, all_tables\n"
        f"e = Embeddings.load({str(tmp_path / 'a')!r})\n"
        "assert set(all_tables(e, e)) == {'statistics', 'rarefaction', 'curves', 'diversity', 'gaps', 'magnitude',"
        " 'neighbours'}\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

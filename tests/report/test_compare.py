"""The comparison on runs whose numbers are literals."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from divaug.base.errors import ConfigError, DivaugError
from divaug.base.stats import effective_number, wilson_interval
from divaug.config.layers import configure
from divaug.config.tables import dump, protocol_fingerprint
from divaug.report import results
from divaug.report.class_table import class_table
from divaug.report.compare import Asked, compare, compare_rows, mean_sd, varied_of
from divaug.report.comparison_page import write_report
from divaug.report.tuning import read_tuning, tuning_of
from divaug.runs.folder import RunFolder
from divaug.study.tune import keep

NAMES = ["ant", "bee", "cat"]
DEFAULTS = "Defaults, the published ones where there are such"
RECALLS = {
    ("erm", 0): [0.90, 0.50, 0.20],
    ("erm", 1): [0.80, 0.60, 0.40],
    ("cmo", 0): [0.85, 0.50, 0.60],
    ("cmo", 1): [0.75, 0.60, 0.40],
}
MANIFEST = {
    "data": "d1d1d1d1",
    "class_names": NAMES, "counts": [90, 30, 9], "cut_counts": [100, 40, 10], "group_counts": [100, 40, 10], "test_counts": [50, 40, 20],
    "train_sha256": "8" * 64, "test_sha256": "7" * 64, "class_order": "native",
}  # fmt: skip


def made(root, method, seed, **more):
    manifest = MANIFEST | {"data": more.pop("data", "d1d1d1d1")}
    config = configure(
        dataset="digits", method=method, seed=seed, epochs=2, experiment="e", output_dir=str(root), **more
    )
    folder = RunFolder.of(config)
    folder.path.mkdir(parents=True)
    recall = RECALLS[method, seed]
    (folder.path / "config.toml").write_text(dump(config))
    (folder.path / "manifest.json").write_text(json.dumps(manifest))
    (folder.path / "environment.json").write_text(json.dumps({"divaug": "0.2.0", "commit": "c" * 40}))
    rows = [
        {"epoch": e, "metrics": {}, "per_class": {"test/recall": r, "test/prior_corrected_recall": r}}
        for e, r in ((0, [0.0, 0.0, 0.0]), (1, recall))
    ]
    (folder.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = {
        "final/test_acc": 0.5 + seed / 10, "final/test_bal_acc": float(np.mean(recall)), "final/test_prior_corrected_bal_acc": 0.7,
        "final/test_acc_head": recall[0], "final/test_acc_mid": recall[1], "final/test_acc_tail": recall[2],
        "final/test_worst_class_acc": min(recall), "final/test_macro_f1": 0.25, "final/feature_dim": 64, "final/train_seconds": 12.0,
        "final/train_clean_rarefied_5_tail": 20.0 + seed,
    }  # fmt: skip
    (folder.path / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def folders(tmp_path):
    return [made(tmp_path, *key) for key in RECALLS]


def test_the_table_has_every_number_in_its_column(folders):
    (comparison,) = compare(folders)
    lines = {
        line.split()[0]: line.split()
        for line in comparison.text.splitlines()
        if line.startswith(("method", "erm ", "cmo ")) and " against " not in line
    }
    assert lines["method"] == [
        "method", "seeds", "acc", "bal", "prior-corr.", "head", "mid", "tail", "worst", "macro-F1", "top-K", "tail", "m=5", "seconds",
    ]  # fmt: skip
    # sd of two values is their difference over the square root of 2
    assert " ".join(lines["erm"]) == (
        "erm 2 55.0 ± 7.1 56.7 ± 4.7 70.0 ± 0.0 85.0 ± 7.1 55.0 ± 7.1 30.0 ± 14.1 30.0 ± 14.1 25.0 ± 0.0 20.5 ± 0.7 12 ± 0"
    )
    assert " ".join(lines["cmo"]).startswith("cmo 2 55.0 ± 7.1 61.7 ± 4.7 70.0 ± 0.0 80.0 ± 7.1")
    assert "3 classes of 90 to 9" in comparison.text and "train 129, test 110 images" in comparison.text


def test_which_classes_a_method_helped_and_hurt(folders):
    (comparison,) = compare(folders)
    # balanced: cmo 65.0 and 58.3, erm 53.3 and 60.0
    assert "  cmo, bal: +5.0 [-79.7, +89.7], n = 2: these runs cannot tell" in comparison.text
    assert "cmo against erm" not in comparison.text  # two runs say nothing of classes
    assert "All are tested on the same images" in comparison.text


def test_runs_of_one_cut_of_several_precisions_and_of_several_versions_are_said_to_be(tmp_path):
    init = [made(tmp_path, method, seed, vary="init") for method in ("erm", "cmo") for seed in (0, 1)]
    (comparison,) = compare(init)
    assert "All are of one cut: intervals are over initial weights and draws" in comparison.text
    (alone,) = compare(init[::2])  # of one seed there is no interval
    assert "All are of one cut" not in alone.text and "tested on the same images" not in alone.text
    rows = comparison.table.assign(experiment="e", protocol="p" * 8, data="d" * 8)
    (again,) = compare_rows(rows)
    assert "All are of one cut" in again.text and "Runs of several" not in again.text
    (mixed,) = compare_rows(rows.assign(precision=["bf16", "fp32"] * 2))
    assert "Runs of several precisions (bf16, fp32): a small difference" in mixed.text
    (mixed,) = compare_rows(rows.assign(precision=["bf16", None] * 2))
    assert "Runs of several precisions (bf16, unknown)" in mixed.text
    assert rows["version"].unique().tolist() == ["0.2.0 cccccccccc"]
    (mixed,) = compare_rows(rows.assign(version=["0.2.0", "0.2.0", None, "0.1.0"]))
    assert "Runs of several versions of divaug (0.2.0, unknown, 0.1.0): a difference may be of its code" in mixed.text
    (init[0].path / "environment.json").unlink()
    assert "(unknown, 0.2.0 cccccccccc)" in compare(init)[0].text


def test_runs_without_a_pair_are_named(folders, tmp_path):
    unpaired = "Runs without a pair of the same seed, in no difference"
    assert unpaired not in compare(folders)[0].text
    (comparison,) = compare([folders[0], *folders[2:]], Asked())
    assert f"{unpaired}: cmo 1." in comparison.notes
    rows = comparison.table.assign(experiment="e", protocol="p" * 8, data="d" * 8, seed=[3, 0, 1])
    (rows,) = compare_rows(rows)
    assert f"{unpaired}: cmo 0, 1; erm 3 (none of cmo)." in rows.notes
    many = pd.concat([rows.table] + [rows.table[1:].assign(method=name) for name in "abcd"])
    (many,) = compare_rows(many)
    assert "erm 3 (none of cmo, a, b and 2 others)." in "".join(many.notes) and "; d 0, 1; erm" in "".join(many.notes)


def test_rows_know_what_their_runs_were_tested_on_and_by_which_version(folders, tmp_path):
    """A hash of digits alone stays a text."""
    for folder in folders:
        results.add(tmp_path / "rows.csv", folder.config, folder)
    rows = results.read(tmp_path / "rows.csv")
    assert rows[["train_part", "test_part", "test_frac", "version"]].drop_duplicates().values.tolist() == [
        ["88888888", "77777777", 0.2, "0.2.0 cccccccccc"]
    ]
    (folders[0].path / "environment.json").write_text(json.dumps({"divaug": "0.2.0", "commit": "c" * 40 + "-dirty"}))
    assert folders[0].version == "0.2.0 cccccccccc-dirty"


def test_what_seeds_vary_is_read_from_what_they_were_trained_and_tested_on(folders):
    table = compare(folders)[0].table
    assert varied_of(table.assign(vary="cut")).startswith("All are of one cut")  # a natural profile has no other
    apart = table.assign(train_part=["a", "b", "a", "b"])
    assert varied_of(apart) == (
        "Each seed is a cut of its own: other images and, where it is long-tailed, another class order. All are tested on "
        "the same images: intervals tell nothing of other test images."
    )
    split = apart.assign(test_part=["a", "b", "a", "b"])
    assert varied_of(split).endswith("tests and intervals allow for that (Nadeau and Bengio, 2003).")
    for unknown in (split.drop(columns="test_part"), split.assign(test_part=["a", None, "a", None])):
        assert varied_of(unknown).endswith("another class order.")  # nothing is said of what is not known


def test_classes_have_their_mean_recall_with_wilsons_interval_of_their_test_images(folders):
    rows = [line.split() for line in class_table(folders[:2]).splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["ant", "90", "50", "85.0"],
        ["bee", "30", "40", "55.0"],
        ["cat", "9", "20", "30.0"],
    ]
    low, high = wilson_interval(0.3, 20)
    assert rows[2][4:] == [f"{100 * low:.1f}", "to", f"{100 * high:.1f}"]


def test_test_images_of_one_patient_count_as_fewer(folders):
    """Of the first class fifty images of ten patients who differ; of two runs the fewer count."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (50, 40, 20))
    groups = np.array([f"p{i % 10}" if i < 50 else f"q{i}" for i in range(110)])
    counts = []
    for folder, strength in zip(folders[:2], (0.5, 3.0), strict=True):
        logits = rng.normal(0, 1, (110, 3)).astype(np.float32)
        logits[:50, 0] += strength * rng.normal(0, 1, 10)[np.arange(50) % 10]
        folder.write_outputs("test", logits, SimpleNamespace(labels=labels, paths=None, units=groups))
        wide = logits.astype(np.float64)
        own = np.exp(wide[:, 0]) / np.exp(wide).sum(1)
        counts.append(effective_number(own[:50], groups[:50]))
    assert counts[1] < 20 < counts[0]
    rows = [line.split() for line in class_table(folders[:2]).splitlines()[1:]]
    for row, recall, count in zip(rows, (0.85, 0.55, 0.3), (counts[1], 40, 20), strict=True):
        low, high = wilson_interval(recall, count)
        assert row[4:] == [f"{100 * low:.1f}", "to", f"{100 * high:.1f}"]


def test_a_run_that_is_not_finished_is_named_unless_it_is_finished_elsewhere(folders, tmp_path):
    begun = made(tmp_path / "there", "cmo", 0)
    (begun.path / "result.json").unlink()
    assert "Not finished" not in compare([*folders, begun])[0].text  # cmo, seed 0, is among the others
    assert "Not finished, and left out: cmo, seed 0." in compare([*folders[:2], begun])[0].text


def test_runs_without_a_record_of_files_are_no_other_method(folders):
    table = compare(folders[:2])[0].table.assign(experiment="e", protocol="p" * 8, data="d" * 8)
    for codes, said in ((["", "aaaa"], False), (["bbbb", "aaaa"], True), (["aaaa", "aaaa"], False)):
        assert ("NOT ONE METHOD" in compare_rows(table.assign(code=codes))[0].text) == said


def test_a_seed_twice_is_refused_and_protocols_are_apart(folders, tmp_path):
    twice = made(tmp_path / "again", "erm", 0)
    with pytest.raises(DivaugError, match="are one run twice, or two runs of one seed"):
        compare([*folders, twice])
    other = made(tmp_path / "other", "erm", 0, lr=0.01)
    assert [list(c.runs) for c in compare([*folders, other])] == [["erm", "cmo"], ["erm"]]
    elsewhere = made(tmp_path / "elsewhere", "erm", 0, data="d2d2d2d2")  # other images under the same protocol
    assert [list(c.runs) for c in compare([*folders, elsewhere])] == [["erm", "cmo"], ["erm"]]
    assert "data d2d2d2d2" in compare([elsewhere])[0].text
    (tmp_path / "other/e/erm/seed0/result.json").unlink()
    assert len(compare([*folders, other])) == 1  # not finished
    with pytest.raises(DivaugError, match="no finished run to compare"):
        compare([other])
    assert replace(folders[0].config, seed=9).seed == 9


def test_means_with_their_deviation():
    assert mean_sd([0.5]) == "50.0" and mean_sd([0.5, float("nan")]) == "50.0" and mean_sd([float("nan")]) == "-"
    assert mean_sd([1.0, 2.0, 4.0], scale=1.0, digits=2) == "2.33 ± 1.53"


def test_where_seeds_permute_the_classes_figures_are_by_rank(tmp_path, monkeypatch):
    """Seed 1 makes cat the largest class: its recall belongs to rank 1, and groups follow its own sizes."""
    seen = {}
    monkeypatch.setattr("divaug.figures.compare.draw_comparison", lambda folder, *given: seen.update(given=given) or [])
    folders = []
    for seed, counts in ((0, [90, 30, 9]), (1, [9, 30, 90])):
        folder = made(tmp_path, "erm", seed)
        manifest = MANIFEST | {
            "counts": counts,
            "group_counts": counts,
            "class_order": f"permuted:{seed}",
            "notes": ["2 images are copies"],
        }
        (folder.path / "manifest.json").write_text(json.dumps(manifest))
        rows = [
            {"epoch": e, "metrics": {}, "per_class": {
                "test/recall": RECALLS["erm", seed], "train_clean/rarefied_5": [1.0, 2.0, 3.0],
                "views/rarefied_5": [10.0 * (e + 1), 20.0, 30.0]}}
            for e in range(2)
        ]  # fmt: skip
        (folder.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        folders.append(folder)
    write_report(tmp_path / "report", compare(folders)[0])
    assert (tmp_path / "report" / "table.txt").read_text().endswith("Noticed in the data:\n- 2 images are copies\n")
    (series,), names, counts, *_ = seen["given"]
    assert names == ["rank 1", "rank 2", "rank 3"] and counts.tolist() == [90, 30, 9]
    assert series.recall.tolist() == [[0.9, 0.5, 0.2], [0.4, 0.6, 0.8]]
    assert series.rarefied.tolist() == [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]
    assert series.growth["head"].tolist() == [[10.0, 20.0], [30.0, 30.0]]
    assert series.growth["tail"].tolist() == [[30.0, 30.0], [10.0, 20.0]]
    table = [line.split() for line in class_table(folders).splitlines()]
    assert table[1][:7] == ["ant", "9", "to", "90", "50", "85.0", table[1][6]]


def test_the_page_the_tables_and_the_csvs_say_what_is_printed(folders, tmp_path):
    (comparison,) = compare(folders, Asked(baseline="cmo", margin=90.0))
    files = {file.name: file for file in write_report(tmp_path / "report", comparison)}
    assert {"table.txt", "comparison.html", "comparison.md", "methods.csv", "contrasts.csv"} < set(files)
    methods = pd.read_csv(files["methods.csv"]).set_index(["method", "metric"])
    # balanced: 53.3 and 60.0 for erm, so 56.7 with a t interval of 12.706 * 4.714 / sqrt(2) = 42.4 to either side
    assert methods.loc[("erm", "bal"), ["runs", "mean"]].tolist() == pytest.approx([2, 56.667], rel=1e-4)
    assert methods.loc[("erm", "bal"), ["low", "high"]].tolist() == pytest.approx([14.31, 99.02], abs=0.01)
    assert methods.loc[("cmo", "seconds"), "mean"] == 12  # not times a hundred
    tests = pd.read_csv(files["contrasts.csv"])
    assert tests["baseline"].tolist() == ["cmo", "cmo"] and tests["difference"].tolist() == [-5.0, 0.0]
    page = files["comparison.html"].read_text()
    assert "56.7 [14.3, 99.0]" in page and "-5.0 [-89.7, +79.7]" in page and "Differences from cmo" in page
    assert page.count('<table class="sortable">') == 2 and "p within 90" in page and "no ends" in page
    assert "erm -5.0" in page and f"{DEFAULTS}: no option was tuned." in comparison.text
    assert "Differences from cmo in points" in files["table.txt"].read_text()


def test_rows_of_a_csv_are_compared_as_runs_are(folders, tmp_path):
    file = tmp_path / "rows.csv"
    for folder in folders:
        results.add(file, folder.config, folder)
    (rows,), (runs,) = compare_rows(results.read(file)), compare(folders)
    shared = [column for column in runs.contrasts if column not in ("helped", "hurt")]
    pd.testing.assert_frame_equal(rows.contrasts[shared], runs.contrasts[shared], check_dtype=False, rtol=1e-4)
    assert rows.notes[-2:] == runs.notes[-2:] and not rows.runs
    files = write_report(tmp_path / "report", rows)
    assert "contrasts.csv" in {file.name for file in files} and not any(file.suffix == ".png" for file in files)
    other = results.read(file).assign(protocol="00000000")
    assert len(compare_rows(pd.concat([results.read(file), other]))) == 2  # protocols are apart


def test_methods_that_were_tuned_and_methods_that_were_not_are_told_apart(folders, tmp_path):
    def said(runs):
        return next(note for note in compare(runs)[0].notes if note.startswith(("Defaults", "Tuned", "NOT")))

    def of(*methods):
        return pd.DataFrame({"method": methods})

    assert said(folders) == f"{DEFAULTS}: no option was tuned."
    tried = pd.DataFrame({
        "protocol": "11112222", "resolved": protocol_fingerprint(folders[0].config), "data": folders[0].manifest["data"],
        "method": ["erm", "cmo", "cmo"], "trial": [0, 0, 1], "label": ["erm", "cmo", "cmo+mix.alpha=0.5"],
        "val_bal_acc": [0.5, 0.4, 0.6], "chosen": [True, False, True], "k": [4, 4, 4],
    })  # fmt: skip
    tried.to_csv(tmp_path / "e" / "tuning.csv", index=False)
    other = made(tmp_path, "cmo", 0, mix={"name": "cmo", "alpha": 0.5, "start": 0.02, "stop": 0.985})
    assert other.label == "cmo+mix.alpha=0.5"
    assert said([folders[0], other]).startswith("Tuned alike: 4 configurations of every method")
    assert said(folders) == f"{DEFAULTS}: no option was tuned."  # both as they are, whatever was tried
    but = "but for methods of your own (mine-2dbf), whose files set theirs."
    assert tuning_of(of("erm", "mine-2dbf"), None) == [f"{DEFAULTS}: no option was tuned, {but}"]
    assert tuning_of(of("erm", "cmo+mix.alpha=0.5", "mine-2dbf"), None)[0].endswith(f"--tune chose none of them, {but}")
    mixed = said([folders[0], folders[2], other])
    assert mixed.startswith("NOT TUNED ALIKE, configurations tried: erm 4, cmo none, cmo+mix.alpha=0.5 4")
    tuned = of("erm", "cmo+mix.alpha=0.5")  # rows, which name their protocol and data; one hash looks like a number
    read = read_tuning(tmp_path / "e" / "tuning.csv")
    (data,) = read["data"].unique()
    assert tuning_of(tuned.assign(protocol="11112222", data=data), read)[0].startswith("Tuned alike: 4")
    for protocol, identity in (("33334444", data), ("11112222", "33334444")):
        other_rows = tuning_of(tuned.assign(protocol=protocol, data=identity), read)
        assert other_rows[0].startswith(f"{DEFAULTS}, but for changes that stand in names (cmo+mix.alpha=0.5); --tune")
    tried.assign(data="33334444").to_csv(tmp_path / "e" / "tuning.csv", index=False)
    assert "--tune chose none of them" in said([folders[0], other])  # of other data under one name
    tried.assign(resolved="33334444").to_csv(tmp_path / "e" / "tuning.csv", index=False)
    assert "--tune chose none of them" in said([folders[0], other])  # of another protocol
    for lost in (["resolved"], ["protocol", "resolved"]):  # before they were kept
        tried.drop(columns=lost).to_csv(tmp_path / "e" / "tuning.csv", index=False)
        assert said([folders[0], other]).startswith("Tuned alike: 4")
    tried.drop(columns=["resolved"]).to_csv(tmp_path / "e" / "tuning.csv", index=False)
    keep(
        tmp_path / "e" / "tuning.csv", tried.assign(method="ros", label="ros", chosen=True, k=4)[:1]
    )  # another is tuned
    assert said([folders[0], other]).startswith("Tuned alike: 4")
    tried.drop(columns=["protocol", "resolved", "data"]).to_csv(tmp_path / "e" / "tuning.csv", index=False)
    assert "--tune chose none of them" in said([folders[0], other])
    (tmp_path / "e" / "tuning.csv").unlink()
    assert (
        said([folders[0], other])
        == f"{DEFAULTS}, but for changes that stand in names (cmo+mix.alpha=0.5); --tune chose none of them."
    )
    chosen = "erm+posthoc=eos+neighbours=100"  # behind the new head too
    assert tuning_of(of("erm", "erm+posthoc=eos", chosen), None) == [
        f"{DEFAULTS}, but for changes that stand in names ({chosen}); --tune chose none of them."
    ]
    assert tuning_of(of("erm", "erm+posthoc=eos"), None) == [f"{DEFAULTS}: no option was tuned."]


def test_a_comparison_without_the_methods_that_are_named_is_shown_and_not_tested(folders, tmp_path):
    other = made(tmp_path / "other", "erm", 0, lr=0.01)
    whole, alone = compare([*folders, other], Asked(baseline="cmo"))
    assert len(whole.contrasts) == 2 and not len(alone.contrasts)
    assert "No run of cmo: nothing is tested." in alone.text and "53.3" in alone.text
    whole, alone = compare([*folders, other], Asked(named=("cmo", "cmo")))
    assert whole.contrasts["method"].tolist() == ["cmo", "cmo"]  # two metrics, each once
    assert "No run of cmo" in alone.text
    assert write_report(tmp_path / "report", alone)
    for asked in (Asked(baseline="ros"), Asked(named=("ros",))):
        with pytest.raises(ConfigError, match="no run of it"):
            compare([*folders, other], asked)


def test_only_the_named_contrasts_are_tested_and_corrected_for():
    rows = pd.DataFrame([
        {"experiment": "e", "protocol": "p", "data": "d", "method": method, "seed": seed, "epochs": 9,
         "test_bal_acc": 0.5 + step * 0.02 + 0.001 * ((3 * seed + step) % 5)}
        for step, method in enumerate(("erm", "cmo", "ros")) for seed in range(5)
    ])  # fmt: skip
    (every,), (named,) = compare_rows(rows), compare_rows(rows, Asked(named=("cmo",)))
    assert every.contrasts["method"].tolist() == ["cmo", "ros"] and named.contrasts["method"].tolist() == ["cmo"]
    assert (named.contrasts["p_holm"] == named.contrasts["p"]).all()
    assert (every.contrasts["p_holm"] > every.contrasts["p"]).any()


def test_a_named_method_that_is_the_baseline_of_another_protocol_stops_nothing():
    """Of protocol q there is no erm, so cmo is its baseline, which is compared with nothing."""
    rows = pd.DataFrame([
        {"experiment": "e", "protocol": protocol, "data": "d", "method": method, "seed": seed, "epochs": 9,
         "test_bal_acc": 0.5 + step * 0.02 + 0.001 * ((3 * seed + step) % 5)}
        for protocol, methods in (("p", ("erm", "cmo")), ("q", ("cmo", "ros")))
        for step, method in enumerate(methods) for seed in range(5)
    ])  # fmt: skip
    p, q = compare_rows(rows, Asked(named=("cmo",)))
    assert p.contrasts["method"].tolist() == ["cmo"] and not len(q.contrasts)
    assert "cmo is the baseline here: nothing is tested." in q.text

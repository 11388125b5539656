"""Fair tuning: what is drawn, that every method gets the same, and that only validation images choose."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from divaug.base.errors import DivaugError, DivergedError
from divaug.config.layers import configure, method_label
from divaug.config.registry import REGISTRIES
from divaug.config.tables import protocol_fingerprint
from divaug.recipes import compare, digits_lt
from divaug.report.tuning import read_tuning
from divaug.runs.folder import RunFolder
from divaug.study import tune as module
from divaug.study.tune import draw, keep, trials_of, tune


def config(method, **more):
    return configure(dataset="digits", method=method, **more)


def test_draws_lie_in_their_range_and_are_spread_over_it():
    rng = np.random.default_rng(0)
    log = np.array([draw((0.01, 10.0, "log"), rng) for _ in range(2000)])
    assert log.min() >= 0.01 and log.max() <= 10.0
    # A third of a range of three decades lies in each; binomial, 2,000 draws: four standard errors are 0.042.
    assert abs((log < 0.1).mean() - 1 / 3) < 0.042 and abs((log > 1.0).mean() - 1 / 3) < 0.042
    flat = np.array([draw((0.0, 1.0), rng) for _ in range(2000)])
    assert abs((flat < 0.5).mean() - 0.5) < 0.045 and flat.min() >= 0 and flat.max() <= 1
    whole = [draw((2, 5), rng) for _ in range(400)]
    assert set(whole) == {2, 3, 4, 5} and all(isinstance(n, int) for n in whole)
    assert {draw([0.9, 0.99], rng) for _ in range(50)} == {0.9, 0.99}
    assert all(value == float(f"{value:.2g}") for value in log[(log > 0.01) & (log < 10)])


def test_the_first_trial_has_the_published_defaults_and_the_others_what_is_declared():
    trials = trials_of(config("cutmix"), 5)
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4] and {trial.method for trial in trials} == {"cutmix"}
    assert trials[0].config.mix == config("cutmix").mix
    for trial in trials[1:]:
        assert set(trial.config.mix.options) == {"alpha", "prob"} and 0.2 <= trial.config.mix.options["prob"] <= 1.0
    assert len({trial.config.mix.options["alpha"] for trial in trials[1:]}) == 4
    assert trials_of(config("cutmix"), 5) == trials and trials_of(config("cutmix"), 5, seed=1) != trials
    # Methods that share a component try the same values of it.
    mine, theirs = (trials_of(config(name), 3)[2].config.loss.options["max_m"] for name in ("ldam", "ldam_drw"))
    assert mine == theirs


def test_what_a_method_or_the_command_line_states_is_kept():
    assert len(trials_of(config("erm"), 6)) == 1 and len(trials_of(config("ros"), 6)) == 1  # nothing to draw
    assert {trial.config.loss.options["tau"] for trial in trials_of(config("cdt"), 4)} == {0.0}  # what makes it cdt
    given = trials_of(config("cutmix", **{"mix.alpha": 0.5}), 4)
    assert {trial.config.mix.options["alpha"] for trial in given} == {0.5}
    assert all(trial.config.phases == config("ldam_drw").phases for trial in trials_of(config("ldam_drw"), 4))
    chained = trials_of(config("randaugment"), 3)[1].config.pixel.options
    assert set(chained) == {"randaugment.num_ops", "randaugment.magnitude"}
    nested = config("erm", pixel={"name": "default+randaugment", "randaugment": {"magnitude": 3}})
    drawn = trials_of(nested, 9)[1].config.pixel.options
    assert drawn["randaugment"] == {"magnitude": 3} and set(drawn) == {"randaugment", "randaugment.num_ops"}


def test_trials_have_validation_images_and_lie_apart_from_the_runs():
    (trial,) = trials_of(config("erm"), 3)
    assert trial.config.val_frac == 0.2 and trial.config.tracking == "off"
    assert trials_of(config("erm"), 2, named_val=True)[0].config.val_frac == 0.0  # the data bring one
    assert trials_of(config("erm", holdout=5), 2)[0].config.val_frac == 0.0  # it has a validation part
    assert trials_of(config("erm", val_frac=0.3), 2)[0].config.val_frac == 0.3
    run, tried = RunFolder.of(config("erm")).path, RunFolder.of(trial.config).path
    assert tried.parents[1].name == run.parents[1].name + "-tune"


def test_the_best_on_validation_is_chosen_and_the_first_of_equals(monkeypatch, tmp_path):
    """Scores by hand, beside a test accuracy that says the opposite."""
    configs = [replace(config(m, output_dir=str(tmp_path)), seed=s) for m in ("cutmix", "focal", "erm") for s in (3, 4)]
    trials = {m: trials_of(configs[2 * i], 3) for i, m in enumerate(("cutmix", "focal", "erm"))}
    scores = {"cutmix": [0.5, 0.7, 0.6], "focal": [0.6, 0.6, 0.5], "erm": [0.4]}
    of = {
        RunFolder.of(t.config).path: {"final/val_bal_acc": s, "final/test_bal_acc": 1 - s}
        for m in trials for t, s in zip(trials[m], scores[m], strict=True)
    }  # fmt: skip
    trained = []
    monkeypatch.setattr(module, "train_methods", lambda configs, folders, jobs: trained.append((list(configs), jobs)))
    monkeypatch.setattr(RunFolder, "result", property(lambda folder: of[folder.path]))
    monkeypatch.setattr(RunFolder, "finished", property(lambda folder: folder.path in of))
    monkeypatch.setattr(RunFolder, "manifest", property(lambda folder: {"data": "1e234567"}))
    resolved = {RunFolder.of(t.config).path: replace(t.config, precision="fp32") for m in trials for t in trials[m]}
    monkeypatch.setattr(RunFolder, "config", property(lambda folder: resolved[folder.path]))
    chosen, table = tune(configs, 3, jobs=2)
    assert set(table["protocol"]) == {protocol_fingerprint(configs[0])} and set(table["data"]) == {"1e234567"}
    assert set(table["resolved"]) == {protocol_fingerprint(replace(configs[0], precision="fp32"))}  # as runs have it
    assert trained == [([t.config for m in trials for t in trials[m]], 2)]
    assert {c.seed for c in trained[0][0]} == {3}
    assert table["chosen"].tolist() == [False, True, False, True, False, False, True]
    assert table["val_bal_acc"].tolist() == [0.5, 0.7, 0.6, 0.6, 0.6, 0.5, 0.4]
    assert [c.seed for c in chosen] == [3, 4] * 3 and set(table["k"]) == {3}
    assert [c.val_frac for c in chosen] == [0.0] * 6  # the runs have all images again
    assert chosen[0].mix == chosen[1].mix == trials["cutmix"][1].config.mix
    assert chosen[2].loss == config("focal").loss and method_label(chosen[4]) == "erm"


def test_a_configuration_that_diverges_is_not_chosen_and_a_method_without_any_is_named(monkeypatch, tmp_path):
    configs = [config(m, output_dir=str(tmp_path)) for m in ("erm", "cutmix")]
    trials = {m: trials_of(c, 3) for m, c in zip(("erm", "cutmix"), configs, strict=True)}
    of = {RunFolder.of(t.config).path: 0.1 * t.number for t in (*trials["erm"], *trials["cutmix"][:2])}

    def train(configs, folders, jobs):
        raise DivergedError("1 of 4 runs diverged")

    monkeypatch.setattr(module, "train_methods", train)
    monkeypatch.setattr(RunFolder, "result", property(lambda folder: {"final/val_bal_acc": of[folder.path]}))
    monkeypatch.setattr(RunFolder, "finished", property(lambda folder: folder.path in of))
    monkeypatch.setattr(RunFolder, "manifest", property(lambda folder: {"data": "1e234567"}))
    monkeypatch.setattr(RunFolder, "config", property(lambda folder: configs[0]))
    _, table = tune(configs, 3)
    assert table["chosen"].tolist() == [True, False, True, False] and math.isnan(table["val_bal_acc"].iloc[-1])
    keep(tmp_path / "tuning.csv", table)
    keep(tmp_path / "tuning.csv", table.assign(protocol="other")[:1])
    keep(tmp_path / "tuning.csv", table[1:].assign(k=5))  # again: of erm and of the other protocol nothing is lost
    kept = read_tuning(tmp_path / "tuning.csv")
    assert len(kept) == 5 and dict(zip(kept["method"] + kept["protocol"], kept["k"], strict=True)) == {
        f"erm{table['protocol'].iloc[0]}": 3, "ermother": 3, f"cutmix{table['protocol'].iloc[0]}": 5
    }  # fmt: skip
    for trial in trials["cutmix"][:2]:
        del of[RunFolder.of(trial.config).path]
    with pytest.raises(DivaugError, match="every configuration of cutmix diverged; lower --lr"):
        tune(configs, 3)


@pytest.mark.parametrize("family", sorted(REGISTRIES))
def test_every_declared_range_is_of_an_option_holds_its_default_and_builds(family):
    for name, entry in REGISTRIES[family].entries().items():
        for option, limits in entry.ranges.items():
            assert option in entry.options, f"{family}/{name} has no option {option}"
            default = float(entry.options[option][1])
            ends = [min(limits), max(limits)] if isinstance(limits, list) else list(limits[:2])
            assert ends[0] <= default <= ends[1], f"{family}/{name}: {option} = {default} outside {limits}"
            assert isinstance(limits, list) or limits[2:] in ((), ("log",))
            for value in ends:
                REGISTRIES[family].check(name, {option: value})
            assert isinstance(limits, list) or not limits[2:] or (ends[0] > 0 and math.log(ends[1] / ends[0]) > 1)


def test_the_command_tunes_alike_says_so_and_compares(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = ["--epochs", "1", "--tracking", "off", "--progress", "none", "--output-dir", "out", "--seeds", "0,1"]
    assert digits_lt.main(["--methods", "erm,cutmix", "--tune", "3", "--dry-run", *keys]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert len(planned) == 4 and all("-tune" in line for line in planned)
    assert digits_lt.main(["--methods", "erm,cutmix", "--tune", "3", *keys]) == 0
    said = capsys.readouterr().out
    assert "up to 3 configurations of every method on the same validation images" in said
    assert "for want of options to draw: erm 1" in said and "Tuned alike: 3 configurations" in said
    (file,) = tmp_path.glob("out/*/tuning.csv")
    table = pd.read_csv(file)
    assert len(table) == 4 and table.groupby("method")["chosen"].sum().tolist() == [1, 1]
    (label,) = table[table["chosen"] & (table["method"] == "cutmix")]["label"]
    assert sorted(p.name for p in (file.parent / label).iterdir()) == ["seed0", "seed1"]
    assert digits_lt.main(["--methods", "cutmix,focal", "--tune", "2", "--results", "rows.csv", *keys]) == 0
    beside = pd.read_csv("rows.tuning.csv")
    kept = pd.read_csv(file)  # of other methods nothing is lost
    assert set(beside["method"]) == {"cutmix", "focal"} and set(kept["method"]) == {"erm", "cutmix", "focal"}
    assert dict(zip(kept["method"], kept["k"], strict=True)) == {"erm": 3, "cutmix": 2, "focal": 2}
    capsys.readouterr()
    assert compare.main(["rows.csv"]) == 0 and "Tuned alike: 2" in capsys.readouterr().out
    other = pd.read_csv("rows.csv", dtype=str).assign(protocol="00000000")  # tuned in another protocol only
    other.to_csv("other.csv", index=False)
    Path("other.tuning.csv").write_text(Path("rows.tuning.csv").read_text())
    assert compare.main(["other.csv"]) == 0 and "Tuned alike" not in capsys.readouterr().out
    for wrong, text in (
        (["--tune", "1"], "whole number from 2 to 1000"),
        (["--tune", "2", "--shard", "1/2"], "--tune"),
    ):
        assert digits_lt.main([*wrong, *keys]) == 2
        assert text in capsys.readouterr().err


def test_validation_images_that_are_test_images_of_another_seed_are_refused(tmp_path, monkeypatch, capsys):
    """Own images without a test part: every seed carves another one."""
    from PIL import Image

    from divaug.recipes import folder_lt

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name, level in (("bright", 160), ("dark", 20)):
            (tmp_path / "own" / part / name).mkdir(parents=True)
            for i in range(12 if part == "train" else 5):
                image = rng.integers(level, level + 60, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / "own" / part / name / f"{i}.png")
    keys = ["--methods", "erm,focal", "--tune", "2", "--epochs", "1", "--min-steps", "0", "--tracking", "off"]
    keys += ["--progress", "none", "--image-size", "12", "--model.widths", "[12]", "--output-dir", "out"]
    assert folder_lt.main([str(tmp_path / "own" / "train"), *keys, "--seeds", "0,1"]) == 2
    assert "one seed's validation images are another's test images" in capsys.readouterr().err
    assert folder_lt.main([str(tmp_path / "own"), *keys, "--seeds", "0,1"]) == 0, capsys.readouterr().err
    assert "Tuned alike: 2" in capsys.readouterr().out


@pytest.mark.parametrize("limits", ["0.5", "(10.0, 0.1)", "(0.0, 1.0, 'log')", "(0.1, 1.0, 'lin')", "[]", "('a', 'b')"])
def test_a_range_that_is_none_is_refused_where_it_is_declared(limits, tmp_path):
    from divaug.base.errors import ConfigError
    from divaug.config.source import entry_of, scan_file

    body = f"@MIX.register('mine', tune={{'alpha': {limits}}})\nclass Mine:\n    def __init__(self, *, alpha: float = 1.0): ...\n"
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(ConfigError, match=r"mine.*tune gives alpha"):
        scan_file(tmp_path / "mine.py", "mine", "MIX")
    (tmp_path / "other.py").write_text(body.replace(limits, "(0.1, 2.0)").replace("'alpha':", "'alhpa':"))
    with pytest.raises(ConfigError, match=r"tune gives alhpa .* it takes options \(alpha\)"):
        scan_file(tmp_path / "other.py", "other", "MIX")
    with pytest.raises(ConfigError, match="tune gives alpha"):
        entry_of("mine", lambda *, alpha=1.0: None, {"alpha": eval(limits)})
    (tmp_path / "third.py").write_text("@MIX.register('mine', tune=RANGES)\nclass Mine: ...\n")
    with pytest.raises(ConfigError, match="written out"):
        scan_file(tmp_path / "third.py", "third", "MIX")

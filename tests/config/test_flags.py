import importlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from divaug import __main__ as recipes_main
from divaug import configure
from divaug.base.errors import ConfigError
from divaug.config import flags
from divaug.config.command import main as run_main
from divaug.recipes import cifar_lt, digits_lt, folder_lt, upload


def parse(*argv, recipe=None, **kwargs):
    return flags.parse("x", "text", list(argv), recipe or {"dataset": "digits"}, methods=("erm", "ros"), **kwargs)


def runs(request):
    return [(config.method, config.seed) for config in request.configs]


def test_methods_and_seeds_are_crossed():
    assert runs(parse()) == [("erm", 0), ("ros", 0)]
    assert runs(parse("--methods", "cmo,rus", "--seeds", "0-1,5")) == [
        ("cmo", 0), ("cmo", 1), ("cmo", 5), ("rus", 0), ("rus", 1), ("rus", 5),
    ]  # fmt: skip
    assert runs(parse("--method", "cmo", "--seed", "3")) == [("cmo", 3)]


def test_one_configuration_is_the_one_with_the_extra_images():
    """Recipes that compare train without them too; an encoder or a gallery takes one."""
    config = configure(dataset="digits")
    extra = replace(config, extra_train="more.csv")
    both = flags.Request([config, extra], False, False, False, None, False, {}, [])
    assert both.only is extra and replace(both, configs=[config]).only is config
    with pytest.raises(ConfigError, match="takes one method and one seed"):
        replace(both, configs=[config, config]).only  # noqa: B018


def test_a_component_flag_is_over_one_method():
    request = parse("--mix", "cutmix", "--mix.alpha", "0.5", "--mix.prob=1.0")
    assert runs(request) == [("erm", 0)]
    assert request.configs[0].mix.options == {"alpha": 0.5, "prob": 1.0}
    assert parse("--method", "cmo", "--mix.alpha", "0.5").configs[0].mix.name == "cmo"
    assert parse("--method", "ros", "--model.head", "cosine").configs[0].head.name == "cosine"
    with pytest.raises(ConfigError, match="--mix changes one method, but 2 are named"):
        parse("--methods", "erm,ros", "--mix", "cutmix")


def test_a_config_file_and_flags(tmp_path):
    (tmp_path / "c.toml").write_text('epochs = 7\nlr = 0.5\n[mix]\nname = "cutmix"\nalpha = 0.3\n')
    config = parse("--config", str(tmp_path / "c.toml"), "--lr", "0.25", "--method", "erm").configs[0]
    assert (config.epochs, config.lr, config.mix.options) == (7, 0.25, {"alpha": 0.3})


def test_lists_and_switches():
    config = parse("--method", "erm", "--monitor-at", "0,1", "--no-monitor", "--no-download", "--no-nesterov").configs[
        0
    ]
    assert (config.monitor_at, config.monitor, config.download, config.nesterov) == (
        (0.0, 1.0),
        False,
        False,
        False,
    )
    custom = parse("--profile", "custom", "--counts", "9,8,7,6,5,4,3,2,2,2", "--method", "erm").configs[0]
    assert custom.counts == (9, 8, 7, 6, 5, 4, 3, 2, 2, 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--methd", "erm"], "unknown argument '--methd'; did you mean '--method'"),
        (["--mixx.alpha", "1"], "unknown argument '--mixx.alpha'; did you mean 'mix'"),
        (["--mix.alpha"], "--mix.alpha needs a value"),
        (["--mix", "cutmix", "--mix.alfa", "1"], "did you mean 'alpha'"),
        (["--epochs", "ten"], "argument --epochs: invalid int value: 'ten'"),
        (["--method", "cutmx"], "unknown method 'cutmx'; did you mean 'cutmix'"),
        (["--preset", "fst"], "unknown preset 'fst'; did you mean 'fast'"),
        (["--methods", "erm", "--method", "ros"], "not both"),
        (["--seeds", "0-2", "--seed", "1"], "not both"),
        (["--seeds", "2-0"], "runs backwards"),
        (["--seeds", "a"], "must look like"),
        (["--seeds", "0,0"], "names a seed twice"),
        (["--list", "mixes"], "unknown family 'mixes'; did you mean 'mix'"),
        (["--describe", "cutmx"], "unknown name 'cutmx'; did you mean 'cutmix'"),
        (["--describe", "mixx/cutmix"], "unknown family 'mixx'"),
        (["--config", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--resume", "some/run", "--seeds", "0-1"], "that one run"),
        (["stray"], "takes no such positional argument"),
        (["--tracking", "nowhere", "--dry-run", "--progress", "loud"], "unknown 'loud'"),
    ],
)
def test_usage_errors(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse(*argv)


def test_a_malformed_config_file_is_named(tmp_path):
    (tmp_path / "c.toml").write_text("epochs = = 3")
    with pytest.raises(ConfigError, match=r"c\.toml: not valid TOML"):
        parse("--config", str(tmp_path / "c.toml"))


def test_information(capsys):
    assert parse("--list", "mix") is None
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [
        "balanced_mixup", "cmo", "cutmix", "mixup", "none", "remix", "resizemix",
    ]  # fmt: skip
    assert all(len(line.split(maxsplit=1)) == 2 for line in listed)
    parse("--list", "models")
    assert "timm:NAME" in capsys.readouterr().out
    parse("--describe", "cmo")
    both = capsys.readouterr().out
    assert "mix/cmo" in both and "methods/cmo" in both and "prob: float = 0.5" in both
    parse("--describe", "mix/cmo")
    assert "methods/cmo" not in capsys.readouterr().out


@pytest.mark.parametrize("recipe", [cifar_lt, digits_lt, folder_lt])
def test_dry_run_and_print_config(recipe, capsys):
    extra = ["images.csv"] if recipe is folder_lt else []
    assert recipe.main([*extra, "--dry-run", "--method", "cmo"]) == 0
    assert "cmo  seed 0" in capsys.readouterr().out
    assert recipe.main([*extra, "--print-config", "--method", "cmo"]) == 0
    assert 'method = "cmo"' in capsys.readouterr().out


def test_exit_codes_and_messages(capsys, monkeypatch):
    assert cifar_lt.main(["--no-download", "--tracking", "off"]) == 3
    assert "python -m divaug.recipes.digits_lt" in capsys.readouterr().err
    assert cifar_lt.main(["--method", "nothing"]) == 2
    assert "cifar_lt: unknown method 'nothing'" in capsys.readouterr().err
    assert upload.main(["nowhere"]) == 1
    assert "no run folder at or below nowhere" in capsys.readouterr().err

    def interrupted(arguments):
        raise KeyboardInterrupt

    assert run_main("x", [], interrupted) == 130
    assert run_main("x", ["-v"], lambda arguments: 1 // 0) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_console_script(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["divaug"])
    assert recipes_main.main() == 0
    shown = capsys.readouterr().out
    assert {
        "audit", "buda", "check", "cifar_lt", "compare", "digits_lt", "encoder", "export", "folder_lt", "fragility", "gallery", "posthoc", "predict", "study",
        "threshold", "train", "upload",
    } == set(recipes_main.recipes())  # fmt: skip
    assert "cifar_lt" in shown and "_compare_methods" not in shown
    monkeypatch.setattr(sys, "argv", ["divaug", "cifar"])
    assert recipes_main.main() == 2
    assert "did you mean 'cifar_lt'" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["divaug", "digits_lt", "--list", "mix"])
    assert recipes_main.main() == 0


@pytest.mark.parametrize("argv", [["--help"], ["--list", "mix"], ["--method", "cutmx"]])
def test_answers_come_at_once(argv):
    # A bound wide enough for a busy machine: importing torch alone takes longer than this.
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "divaug.recipes.digits_lt", *argv], capture_output=True, check=False)
    assert time.perf_counter() - started < 2.5


def test_components_from_any_layer_are_over_one_method(tmp_path, monkeypatch):
    (tmp_path / "mix.toml").write_text('mix = "cutmix"\n')
    assert runs(parse("--config", str(tmp_path / "mix.toml"))) == [("erm", 0)]
    with pytest.raises(ConfigError, match="--mix changes one method, but 2 are named"):
        parse("--config", str(tmp_path / "mix.toml"), "--methods", "erm,ros")
    monkeypatch.setenv("DIVAUG_MIX", "cutmix")
    with pytest.raises(ConfigError, match="--mix changes one method"):
        parse("--methods", "erm,ros")


def test_a_method_named_twice_is_refused():
    with pytest.raises(ConfigError, match="names a method twice"):
        parse("--methods", "erm,erm")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--profile", "natural", "--imbalance-factor", "50"],
            "--imbalance-factor has no effect here; .*--profile exp",
        ),
        (["--test-frac", "0.3"], "--test-frac has no effect here"),
        (
            ["--dataset", "csv", "--path", "a.csv", "--test", "b.csv", "--test-frac", "0.3"],
            "--test-frac has no effect here",
        ),
        (["--class-order", "native"], "every seed has its own order; use --vary images"),
        (["--normalization", "0.5,0.5,0.5,0.5,0.5,0.5"], "--normalization has no effect here"),
        (["--optim", "adamw", "--momentum", "0.5"], "--momentum has no effect here; use it with --optim sgd or muon"),
        (["--milestones", "0.5"], "--milestones has no effect here; use it with --schedule step"),
        (["--workers", "2", "--loader", "resident"], "workers are for the streaming loader"),
    ],
)
def test_flags_without_effect_are_refused(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse("--method", "erm", *argv)


def test_a_dry_run_says_when_phases_begin(capsys):
    """The last epoch at the latest, as training does: 0.8 of two epochs is no third one."""
    for epochs, begins in (("2", "1"), ("1", "0"), ("10", "8")):
        assert digits_lt.main(["--method", "ldam_drw", "--epochs", epochs, "--dry-run"]) == 0
        assert f"{epochs} epochs, phases from epoch {begins} (from 0)" in capsys.readouterr().out
    assert digits_lt.main(["--method", "cmo", "--mix.stop", "0.5", "--epochs", "4", "--dry-run"]) == 0
    assert "phases from epoch 0, 2 (from 0)" in capsys.readouterr().out


def test_own_images_are_told_by_their_ending_wherever_the_path_stands():
    def own(*argv):
        return parse(*argv, "--method", "erm", recipe={}, positional=("path", "pictures")).configs[0].dataset

    assert own("--image-size", "16", "my.csv") == own("my.CSV") == "csv"
    assert own("pictures") == "image_folder"
    with pytest.raises(ConfigError, match="the argument PATH is missing"):
        own()


def test_custom_counts_have_a_name_of_their_own(capsys):
    argv = ["--profile", "custom", "--counts", "5,5,5,5,5,5,5,5,5,5", "--method", "erm", "--dry-run"]
    assert digits_lt.main(argv) == 0
    assert "digits-custom-" in capsys.readouterr().out


def test_a_wrong_value_is_a_usage_error_whoever_sees_it(capsys):
    flags = ["--method", "erm", "--tracking", "off", "--progress", "none", "--model.widths"]
    assert digits_lt.main([*flags, "3"]) == 2
    assert "models.widths of 'whitened_cnn' must be Sequence[int], got 3" in capsys.readouterr().err
    assert digits_lt.main([*flags, "[0]"]) == 2  # which only the factory sees
    assert "models 'whitened_cnn': widths must be a list of whole numbers >= 1" in capsys.readouterr().err
    assert digits_lt.main(["--import", "no_such_package.augs", "--list", "mix"]) == 2


@pytest.mark.parametrize(("recipe", "argv"), [("check", ["cutmix"]), ("gallery", [])])
def test_a_recipe_that_has_no_trial_has_no_flag_for_one(recipe, argv, capsys):
    assert importlib.import_module(f"divaug.recipes.{recipe}").main([*argv, "--smoke", "--dry-run"]) == 2
    assert "--smoke" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "argv", "meant"),
    [
        ("cifar_lt", ["--epoch", "3"], "--epochs"), ("folder_lt", ["x", "--epoch", "3"], "--epochs"),
        ("digits_lt", ["--epoch", "3"], "--epochs"), ("encoder", ["--epoch", "3"], "--epochs"),
        ("audit", ["own", "--sav", "f.csv"], "--save"),
        ("check", ["cutmix", "--importe", "f.py"], "--import"), ("gallery", ["--importe", "f.py"], "--import"),
        ("fragility", ["--evidense", "x.csv"], "--evidence"), ("compare", ["x", "--encod", "f"], "--encoder"),
        ("posthoc", ["x", "--head-epoch", "3"], "--head-epochs"), ("study", ["run", "x", "--desing", "y"], "--design"),
        ("train", ["x", "--fold", "3"], "--folds"), ("predict", ["m", "x", "--outptu", "y"], "--output"),
        ("threshold", ["m", "--sensitivty", "0.9"], "--sensitivity"), ("export", ["m", "--outptu", "x"], "--output"),
            ("upload", ["x", "--track", "off"], "--tracking"), ("buda", ["--seedz", "0"], "--seeds"),
    ],
)  # fmt: skip
def test_every_recipe_names_the_flag_that_was_meant(recipe, argv, meant, capsys):
    module = importlib.import_module(f"divaug.recipes.{recipe}")
    assert module.main(argv) == 2
    said = capsys.readouterr().err
    assert f"did you mean '{meant}'" in said or f"did you mean {meant}" in said
    assert {path.stem for path in Path(module.__file__).parent.glob("[!_]*.py")} == {
        "cifar_lt", "folder_lt", "digits_lt", "encoder", "check", "gallery", "fragility", "compare", "posthoc", "study", "upload", "buda",
        "train", "predict", "threshold", "export",
            "audit",
    }  # fmt: skip


def test_help_shows_the_values_that_hold_for_the_recipe(capsys):
    for argv, known in (
        (["folder_lt"], ("peak learning rate (default: 0.05)", "(default: csv)")),
        (["cifar_lt"], ("peak learning rate (default: 0.2)", "(default: cifar10)")),
    ):
        with pytest.raises(SystemExit):
            importlib.import_module(f"divaug.recipes.{argv[0]}").main(["--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert all(value in text for value in known) and "all runs (default: runs)" in text


def test_a_practitioners_help_is_short_and_all_of_it_can_be_asked_for(capsys):
    shown = {}
    train = importlib.import_module("divaug.recipes.train")
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            train.main([flag])
        shown[flag] = capsys.readouterr().out
    brief, whole = shown["--help"], shown["--help-all"]
    assert "--more-top-k" in whole and "--more-top-k" not in brief and "--more-top-k" not in brief.split("[PATH]")[0]
    assert all(flag in brief for flag in ("--folds", "--methods", "--image-size", "--jobs", "--epochs", "--help-all"))
    assert len(brief.splitlines()) < 100 < len(whole.splitlines())
    missing = whole.count("\n  --") - brief.count("\n  --")
    assert f"{missing} more flags: --help-all" in " ".join(brief.split())
    assert train.main(["x", "--more-topk", "3"]) == 2 and "--more-top-k" in capsys.readouterr().err


def test_a_recipes_own_flags_come_before_the_keys_that_all_recipes_have(capsys):
    for argv in (["train"], ["fragility"], ["cifar_lt"]):
        with pytest.raises(SystemExit):
            importlib.import_module(f"divaug.recipes.{argv[0]}").main(["--help"])
        text = capsys.readouterr().out.split("options:")[1]
        order = [text.index(f"\n  {flag}") for flag in ("--methods", "--jobs", "--image-size")]
        assert order == sorted(order), argv


def test_what_a_trial_sets_is_not_taken_for_the_users():
    """--smoke sets an imbalance factor; the user asked for the images as they are."""
    request = flags.parse(
        "x", "", ["--smoke", "--dataset", "digits", "--profile", "natural"], {}, methods=("erm",),
        smoke={"imbalance_factor": 5.0},
    )  # fmt: skip
    assert request.only.profile == "natural" and request.smoke

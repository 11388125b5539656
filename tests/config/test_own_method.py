"""A method of one's own is a TOML file, beside those of divaug: named, compared, found again."""

import pytest

import divaug
from divaug.base.errors import ConfigError
from divaug.config.flags import parse
from divaug.config.layers import configure, experiment_name, method_label, read_toml
from divaug.config.layers import resolve as resolve_layers
from divaug.recipes import digits_lt
from divaug.runs.folder import RunFolder

MINE = 'description = "CutMix on rare classes"\nsampler = "oversample"\nmix = {{ name = "cutmix", alpha = {alpha} }}\n'


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE.format(alpha=0.7))
    return path


def test_its_keys_are_the_runs_and_flags_go_over_them(mine):
    config = configure(method=str(mine), dataset="digits")
    assert (config.method, config.sampler.name, config.mix.options) == ("mine.toml", "oversample", {"alpha": 0.7})
    assert configure(method=str(mine), dataset="digits", **{"mix.alpha": 0.2}).mix.options == {"alpha": 0.2}


def test_its_label_follows_what_it_says_and_not_where_it_lies(mine, tmp_path):
    labels = [method_label(configure(method=str(mine), dataset="digits"))]
    (tmp_path / "other").mkdir()
    for path, alpha in ((tmp_path / "other" / "mine.toml", 0.7), (mine, 0.8)):
        path.write_text(MINE.format(alpha=alpha))
        labels.append(method_label(configure(method=str(path), dataset="digits")))
    assert labels[0] == labels[1] != labels[2]
    assert all(label.startswith("mine-") for label in labels)
    one, two = (configure(method=name, dataset="digits") for name in (str(mine), "erm"))
    assert experiment_name(one) == experiment_name(two)  # so that they are compared


def test_it_is_compared_with_the_others_and_its_run_found_again_without_the_file(mine, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--epochs", "1", "--model.widths", "[8]", "--tracking", "off", "--no-monitor", "--quiet"]
    assert digits_lt.main(["--methods", f"{mine},erm", *flags]) == 0
    assert "\nmine-" in capsys.readouterr().out
    (folder,) = (path for path in (tmp_path / "runs").rglob("seed0") if path.parent.name.startswith("mine-"))
    mine.unlink()
    assert RunFolder(folder).config.mix.name == "cutmix"
    assert divaug.load(folder).classes[0] == "0"
    assert digits_lt.main(["--config", str(folder / "config.toml")]) == 0  # its own record goes back to it
    again = resolve_layers(config=read_toml(folder / "config.toml"))
    assert method_label(again) == folder.parent.name


@pytest.mark.parametrize(
    ("text", "said"),
    [("epochs = 3", "not keys of a method"), ('mix = "cutmax"', "unknown mix"), ("mix = ", "not valid TOML")],
)
def test_what_is_wrong_in_it_is_said(mine, text, said):
    mine.write_text(text)
    with pytest.raises(ConfigError, match=said):
        configure(method=str(mine), dataset="digits")
    mine.unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        configure(method=str(mine), dataset="digits")


def test_options_go_to_a_step_of_a_chain():
    flags = ["--dataset", "digits", "--pixel", "default+cutout", "--pixel.cutout.size_frac", "0.3"]
    request = parse("test", "", flags, {})
    assert request is not None
    config = request.only
    assert config.pixel.options == {"cutout.size_frac": 0.3}
    assert method_label(config) == "erm+pixel=default+cutout+pixel.cutout.size_frac=0.3"
    same = configure(dataset="digits", pixel="default+cutout", **{"pixel.cutout.size_frac": 0.3})
    nested = configure(dataset="digits", pixel={"name": "default+cutout", "cutout": {"size_frac": 0.3}})
    from divaug.config.registry import PIXEL
    from divaug.pixel.none import NoPixel

    facts = {"default_pixel": NoPixel()}
    for one in (config, same, nested):
        chain = PIXEL.build(one.pixel.name, facts=facts, **one.pixel.options)
        assert [type(step).__name__ for step in chain.steps] == ["NoPixel", "Cutout"] and chain.steps[
            1
        ].size_frac == 0.3
    for option, said in (
        ("size_frac", "name the step that it is for, as in default.OPTION"),
        ("cutoff.size", "has no option"),
    ):
        with pytest.raises(ConfigError, match=said):
            configure(dataset="digits", pixel="default+cutout", **{f"pixel.{option}": 0.3})
    with pytest.raises(ConfigError, match="'cutout' has no 'sizes'"):
        configure(dataset="digits", pixel="default+cutout", **{"pixel.cutout.sizes": 3})


def test_an_own_method_over_the_record_of_another_run_is_refused(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = configure(dataset="digits", method="erm")
    from divaug.config.tables import dump

    (tmp_path / "run.toml").write_text(dump(plain))
    for method in (str(mine), "nowhere/there.toml"):  # nothing of it could have an effect
        with pytest.raises(ConfigError, match="which has all keys of a method"):
            configure(config=str(tmp_path / "run.toml"), method=method)


def test_an_own_method_with_phases_is_found_again_from_its_record(mine, tmp_path):
    from divaug.config.tables import dump

    mine.write_text('loss = "focal"\n[[phase]]\nfrom = 0.5\nloss = "ce"\n')
    config = configure(dataset="digits", method=str(mine))
    (tmp_path / "run.toml").write_text(dump(config))
    mine.unlink()
    again = configure(config=str(tmp_path / "run.toml"))
    assert again.phases == config.phases and method_label(again) == method_label(config)


def test_a_method_cannot_build_on_another(mine):
    mine.write_text('method = "cmo"\n')
    with pytest.raises(ConfigError, match="cannot build on another: drop 'method'"):
        configure(dataset="digits", method=str(mine))

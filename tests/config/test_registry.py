import subprocess
import sys

import pytest
import torch

from divaug.base.errors import ConfigError
from divaug.config import registry
from divaug.config.registry import LOSSES, MIX, PIXEL, Registry, add_import

MINE = '''
"""My mixes."""
from divaug.base.labels import MixedLabels
from divaug.config.registry import MIX


@MIX.register("mine")
class Mine:
    """Darken every image."""

    def __init__(self, class_counts, *, strength: float = 0.5) -> None:
        self.strength = strength

    def sample(self, labels, size, rng):
        return None

    def apply(self, images, labels, plan, donors=None):
        return images * self.strength, MixedLabels.hard(labels)
'''


def test_entries_are_read_from_the_source():
    entry = LOSSES.entry("ldam")
    assert entry.facts == ("class_counts", "head_scale") and entry.options == {"max_m": ("float", "0.5")}
    assert entry.summary.startswith("Cross-entropy with a margin") and entry.module == "divaug.losses.ldam"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cutmx", {}, r"unknown mix 'cutmx'; did you mean 'cutmix'\? Allowed: balanced_mixup, cmo, cutmix.* --import"),
        ("cutmix", {"alfa": 1.0}, "mix 'cutmix' has no 'alfa'; did you mean 'alpha'"),
        ("cutmix", {"alpha": "big"}, "mix.alpha of 'cutmix' must be float, got 'big'"),
        ("cutmix", {"alpha": True}, "mix.alpha of 'cutmix' must be float, got True"),
        ("cutmix", {"alpha": -1.0}, r"mix 'cutmix': alpha must be > 0, got -1\.0"),
        ("cmo", {"class_counts": 3}, "mix 'cmo' has no 'class_counts'"),
    ],
)
def test_errors_name_the_way_out(facts, name, options, message):
    with pytest.raises(ConfigError, match=message):
        MIX.build(name, facts=facts, **options)


@pytest.fixture
def facts():
    return {"labels": torch.tensor([0, 1]), "class_counts": torch.tensor([1, 1]), "num_classes": 2}


def test_missing_facts_and_required_options():
    table = Registry("toys", "divaug.feature", "TOYS")

    @table.register("toy")
    class Toy:
        """A toy."""

        def __init__(self, encoder_features, *, size: int) -> None:
            self.size = size

    with pytest.raises(ConfigError, match=r"needs encoder_features, not available here \(give --encoder\)"):
        table.build("toy", facts={}, size=3)
    with pytest.raises(ConfigError, match="needs a value for size"):
        table.build("toy", facts={"encoder_features": 1})
    assert table.build("toy", facts={"encoder_features": 1}, size=3).size == 3
    assert table.entry("toy").options == {"size": ("int", None)}
    with pytest.raises(ValueError, match="'toy' is already registered by"):
        table.register("toy")(dict)


def test_a_users_file_is_listed_without_being_imported_and_built_when_asked(tmp_path, facts):
    (tmp_path / "my_augs.py").write_text(MINE)
    add_import(str(tmp_path / "my_augs.py"))
    assert MIX.entry("mine").summary == "Darken every image."
    assert "divaug._user_my_augs" not in sys.modules
    assert MIX.build("mine", facts=facts, strength=0.25).strength == 0.25
    with pytest.raises(ConfigError, match="has no 'strenght'; did you mean 'strength'"):
        MIX.build("mine", facts=facts, strenght=0.25)


def test_names_made_at_run_time_are_found_by_importing(tmp_path, facts):
    (tmp_path / "late.py").write_text(
        MINE.replace('@MIX.register("mine")', "").replace("class Mine", "class Mine")
        + '\nfor n in ("one", "two"):\n    MIX.register(n)(type(n, (Mine,), {}))\n'
    )
    add_import(str(tmp_path / "late.py"))
    assert {"one", "two"} <= set(MIX.entries())
    (tmp_path / "both.py").write_text(
        MINE + '\nfor n in ("three", "four"):\n    MIX.register(n)(type(n, (Mine,), {}))\n'
    )
    add_import(str(tmp_path / "both.py"))
    assert {"mine", "three", "four"} <= set(MIX.entries())


def test_no_name_of_divaugs_own_is_taken_over():
    """Not even by a class of a notebook: every erm would train with it, and nothing would say so."""
    with pytest.raises(ValueError, match="losses 'ce' is one of divaug's own; choose another name"):
        LOSSES.register("ce")(type("Mine", (), {"__init__": lambda self: None}))
    assert LOSSES.build("ce", facts={}).__class__.__module__ == "divaug.losses.ce"


POSITIONAL = """
from divaug.config.registry import MIX, PIXEL
from divaug.base.contracts import Pixel
INNER = "crop_flip"

@MIX.register("positional")
class Positional:
    def __init__(self, strength=0.5):
        pass

@PIXEL.register("outer")
class Outer:
    def __init__(self, *, inner: Pixel = INNER):
        pass
"""


def test_what_authors_of_components_get_wrong_first(tmp_path, facts):
    (tmp_path / "positional.py").write_text(POSITIONAL)
    add_import(str(tmp_path / "positional.py"))
    with pytest.raises(ConfigError, match=r"needs strength, not available.*hyperparameters come after \*"):
        MIX.build("positional", facts=facts)
    with pytest.raises(ConfigError, match=r"no 'strength'; strength is positional.*come after \*"):
        MIX.build("positional", facts=facts, strength=0.1)
    with pytest.raises(ConfigError, match="pixel 'outer': the default of inner must be a name or a table, written out"):
        PIXEL.build("outer", facts=facts)


@pytest.mark.parametrize(
    ("registry", "name", "options"),
    [
        (MIX, "cutmix", {"partner": {"power": 0.5}}),
        (MIX, "cutmix", {"partner": 3}),
        (PIXEL, "cuda", {"weak": 3}),
        (PIXEL, "cuda", {"weak": None}),
        (PIXEL, "chain", {"steps": [3]}),
        (PIXEL, "chain", {"steps": "crop_flip"}),
        (PIXEL, "chain", {"steps": [{"level": 2}]}),
        (PIXEL, "by_class", {"policy": {"tail": ["crop_flip"]}}),
        (PIXEL, "by_class", {"policy": {"tail": True}}),
        (PIXEL, "by_class", {"policy": "strong"}),
    ],
)
def test_what_is_no_component_is_refused_before_anything_is_built(registry, name, options):
    (key,) = options
    way = "give (pixel|partners) by name, or as a table with a name"
    with pytest.raises(ConfigError, match=rf"{registry.family}\.{key} of '{name}' must be .*, got .*; {way}"):
        registry.check(name, options)


def test_what_is_a_component_passes():
    MIX.check("cutmix", {"partner": {"name": "minority", "power": 0.5}})
    MIX.check("cutmix", {"partner": None})
    PIXEL.check("by_class", {"policy": {"tail": {"name": "levels", "level": 3}, "mid": 0.5, "head": 1, "0": "none"}})
    PIXEL.check("chain", {"steps": ["crop_flip", {"name": "cutout"}]})


def test_a_module_on_the_path_works_too(tmp_path, facts, monkeypatch):
    (tmp_path / "some_package_of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    add_import("some_package_of_mine")
    assert MIX.build("mine", facts=facts).strength == 0.5


def test_entry_points_are_found(tmp_path, facts, monkeypatch):
    (tmp_path / "plugged.py").write_text(MINE.replace('"mine"', '"plugged"'))
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[divaug.plugins]\nplugged = plugged\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert MIX.build("plugged", facts=facts).strength == 0.5


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("a.py", None)], r"a\.py: no such file"),
        ([("a.py", "x = 1")], "registers nothing"),
        ([("a.py", "def broken(:")], "line 1: invalid syntax"),
        ([("a.py", MINE), ("sub/a.py", MINE)], "another file of the same name"),
        ([("a.py", MINE), ("b.py", MINE)], "'mine' is already registered by divaug._user_a"),
        (
            [("a.py", MINE.replace('"mine"', '"cutmix"'))],
            "'cutmix' is already registered by divaug.mix.cutmix",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, files, message):
    (tmp_path / "sub").mkdir()
    for name, text in files:
        if text is not None:
            (tmp_path / name).write_text(text)

    def use():
        for name, _ in files:
            add_import(str(tmp_path / name))
        MIX.entries()

    with pytest.raises(ConfigError, match=message):
        use()


def test_no_such_module():
    with pytest.raises(ConfigError, match="no such module"):
        add_import("no_such_module_anywhere")


def test_importing_divaug_does_nothing():
    script = """
import sys, socket, time
def refuse(*a): raise AssertionError("opened a connection")
socket.socket.connect = refuse
started = time.perf_counter()
import divaug
assert time.perf_counter() - started < 1
heavy = {"torch", "numpy", "torchvision", "timm", "mlflow", "matplotlib", "pandas", "sklearn"} & set(sys.modules)
assert not heavy, heavy
import divaug.config.flags, divaug.recipes.cifar_lt
heavy = {"torch", "numpy", "torchvision", "timm", "mlflow", "matplotlib", "pandas", "sklearn"} & set(sys.modules)
assert not heavy, heavy
assert "load" in dir(divaug) and divaug.stream is not None
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_facts_are_the_closed_list():
    for family in registry.REGISTRIES.values():
        if family.family not in ("datasets", "models"):
            for entry in family.entries().values():
                assert set(entry.facts) <= set(registry.FACTS), entry


def test_constructors_written_elsewhere_are_seen(tmp_path, facts):
    (tmp_path / "inherits.py").write_text(
        "from dataclasses import dataclass\nfrom divaug.mix.remix import Remix\nfrom divaug.config.registry import MIX\n\n"
        '@MIX.register("my_remix")\nclass MyRemix(Remix):\n    """Mine."""\n\n\n'
        '@MIX.register("data_mix")\n@dataclass\nclass DataMix:\n    """Data."""\n\n    class_counts: object\n'
    )
    add_import(str(tmp_path / "inherits.py"))
    assert MIX.entry("my_remix").facts == ("class_counts",)
    assert MIX.build("my_remix", facts=facts, tau=0.25).tau == 0.25
    assert MIX.build("data_mix", facts=facts).class_counts is facts["class_counts"]

"""Files of the user's own: which are run, which are only read, and how they are named."""

import os
import subprocess
import sys

import pytest

from divaug.base.errors import ConfigError
from divaug.config import user_files
from divaug.config.layers import configure
from divaug.config.registry import LOSSES, add_import

MINE = '''
from torch import nn
from divaug.config.registry import LOSSES

@LOSSES.register("mine")
class Mine(nn.Module):
    """Mine."""

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
'''


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(user_files, "_looked_at", [])
    monkeypatch.setattr(user_files, "_trusting", False)


def marking(path, text=MINE):
    """A file that leaves a mark when it is run."""
    path.write_text(f"import pathlib\npathlib.Path({str(path.with_suffix('.ran'))!r}).touch()\n{text}")
    return str(path)


def test_what_only_a_run_folder_names_is_read_and_not_run(tmp_path):
    file = marking(tmp_path / "theirs.py")
    add_import(file, named_by_user=False)
    LOSSES.check("mine", {"scale": 2.0})
    assert not (tmp_path / "theirs.ran").exists() and user_files.imports() == []
    with pytest.raises(ConfigError, match=r"theirs\.py.*--trust-imports"):
        LOSSES.build("mine", facts={})
    assert not (tmp_path / "theirs.ran").exists()
    add_import(file)  # the user names it too
    LOSSES.build("mine", facts={})
    assert (tmp_path / "theirs.ran").exists()


def test_names_that_only_running_shows_are_not_found_by_reading(tmp_path):
    file = marking(
        tmp_path / "computed.py", "from divaug.config.registry import LOSSES\nLOSSES.register('a' + 'b')(dict)\n"
    )
    add_import(file, named_by_user=False)
    with pytest.raises(ConfigError, match="unknown losses 'ab'"):
        LOSSES.entry("ab")
    assert not (tmp_path / "computed.ran").exists()
    add_import(str(tmp_path / "gone.py"), named_by_user=False)  # a folder from elsewhere names what is not here
    inherits = marking(
        tmp_path / "inherits.py",
        MINE.replace("nn.Module)", "Base)")
        .replace("def __init__(self, *, scale: float = 1.0) -> None:\n        super().__init__()", "pass")
        .replace("@LOSSES", "class Base(nn.Module): pass\n\n@LOSSES"),
    )
    add_import(inherits, named_by_user=False)
    with pytest.raises(ConfigError, match="--trust-imports"):
        LOSSES.entries()
    assert not (tmp_path / "inherits.ran").exists()


def test_the_user_can_trust_run_folders(tmp_path):
    file = marking(tmp_path / "theirs.py")
    user_files.trust()
    add_import(file, named_by_user=False)
    LOSSES.build("mine", facts={})
    assert (tmp_path / "theirs.ran").exists()


@pytest.mark.parametrize("name", ["a:b.py", "my.losses.py", "with space.py", "my-losses.py"])
def test_any_path_can_be_imported(name, tmp_path):
    (tmp_path / "x:y").mkdir()
    (tmp_path / "x:y" / name).write_text(MINE)
    add_import(str(tmp_path / "x:y" / name))
    loss = LOSSES.build("mine", facts={})
    assert type(loss).__module__.startswith("divaug._user_") and "." not in type(loss).__module__.removeprefix(
        "divaug."
    )
    found = subprocess.run(
        [sys.executable, "-c", "import divaug; from divaug.config.registry import LOSSES; LOSSES.build('mine', facts={})"],
        check=False, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr


def test_computed_names_are_known_in_children_too(tmp_path):
    (tmp_path / "late.py").write_text(MINE.replace('"mine"', '"mi" + "ne"'))
    add_import(str(tmp_path / "late.py"))
    script = "import divaug; from divaug.config.registry import LOSSES; LOSSES.check('mine', {'scale': 1.0})"
    assert subprocess.run([sys.executable, "-c", script], check=False, env=os.environ).returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys\nsys.exit(0)", "it calls sys.exit"),
        ("1 / 0", "ZeroDivisionError"),
        ("import no_such_thing", "no_such_thing"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(text, said, tmp_path):
    (tmp_path / "bad.py").write_text(text + "\n" + MINE)
    add_import(str(tmp_path / "bad.py"))  # it is run when something in it is built
    with pytest.raises(ConfigError, match=rf"bad\.py cannot be imported: .*{said}"):
        LOSSES.build("mine", facts={})


def test_a_file_of_computed_names_can_be_named_twice(tmp_path):
    (tmp_path / "late.py").write_text(MINE.replace('"mine"', '"mi" + "ne"'))
    for _ in range(2):
        add_import(str(tmp_path / "late.py"))
    assert "mine" in LOSSES.entries()


def test_what_a_constructor_raises_is_reported_by_name(tmp_path):
    (tmp_path / "raises.py").write_text(MINE.replace("super().__init__()", "raise KeyError('x')"))
    add_import(str(tmp_path / "raises.py"))
    with pytest.raises(ConfigError, match="losses 'mine' raised KeyError: 'x'"):
        LOSSES.build("mine", facts={})


def test_configure_reads_the_files_that_its_configuration_names(tmp_path):
    (tmp_path / "of_the_file.py").write_text(MINE)
    (tmp_path / "c.toml").write_text(f'import = ["{tmp_path}/of_the_file.py"]\ndataset = "digits"\nloss = "mine"\n')
    config = configure(config=str(tmp_path / "c.toml"))
    assert config.loss.name == "mine" and config.imports == (f"{tmp_path}/of_the_file.py",)

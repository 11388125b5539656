import subprocess
import sys

import pytest

from divaug.base.errors import DataError
from divaug.config.command import Parser, main

SCRIPT = """
import os, sys
from divaug.config.command import main
def work(arguments):
    print("to stdout"); print("to stderr", file=sys.stderr)
    open("out.txt", "w").write(str(sorted(int(n) for n in os.listdir("/proc/self/fd"))))
    return 0
sys.exit(main("x", [], work))
"""


def test_closed_streams_are_opened_on_nothing(tmp_path):
    """Or the next file that is opened would get their number, and receive what is printed."""
    for closed in ("2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            f"{sys.executable} -c '{SCRIPT}' {closed}", shell=True, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, closed
        assert "to" not in (tmp_path / "out.txt").read_text()


def test_a_reader_that_went_away_is_no_traceback():
    script = SCRIPT.replace('print("to stdout");', '[print("line " * 50) for _ in range(5000)];')
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -c '{script}' | head -1"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr == "to stderr\n" * (done.stderr != "")


def test_what_stops_a_recipe_is_printed_without_passwords_and_control_characters(capsys):
    def stop(error):
        def work(arguments):
            raise error

        return main("x", [], work)

    assert stop(DataError("no http://me:pw@host, \x1b[2J")) == 3
    assert capsys.readouterr().err == "x: no http://host, \\x1b[2J\n"
    assert stop(SystemExit(0)) == 1 and "sys.exit(0)" in capsys.readouterr().err
    with pytest.raises(SystemExit) as told:
        main("x", ["--help"], lambda arguments: Parser("x", "what it does").read(arguments) and 0)
    assert told.value.code == 0 and "what it does" in capsys.readouterr().out
    assert stop(KeyboardInterrupt()) == 130 and capsys.readouterr().err == "x: interrupted\n"

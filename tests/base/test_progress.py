import io
import sys

import pytest

from divaug.base.progress import Progress

METRICS = {"train/loss": 1.0, "train/epoch_seconds": 2.0}


class Gone(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text):
        raise BrokenPipeError


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [Gone(), Full(), None, "closed"])
@pytest.mark.parametrize("mode", ["bar", "lines"])
def test_a_log_that_cannot_be_written_stops_nothing(stream, mode, monkeypatch):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    progress = Progress(mode)
    progress.say("a")
    progress.warn("b")
    progress.start_epoch(0, 2, 3, 0)
    progress.step()
    progress.end_epoch(0, 2, METRICS, 1.0)
    Progress("auto").say("c")


def test_names_from_users_cannot_steer_the_terminal(capsys):
    Progress("lines").say("note: class '\x1b[2J' is empty\nand so on")
    assert capsys.readouterr().err == "note: class '\\x1b[2J' is empty\nand so on\n"

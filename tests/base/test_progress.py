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


@pytest.mark.parametrize("stream", [Gone(), Full()], ids=["gone", "full"])
def test_another_thread_can_write_after_a_stream_has_failed(stream, monkeypatch):
    """tqdm's refresh keeps its lock where the stream fails: a thread that says how long runs take waited for ever."""
    import threading

    from tqdm import tqdm

    progress = Progress("bar")
    monkeypatch.setattr("sys.stderr", stream)
    for _ in range(3):
        progress.start_epoch(0, 2, 10, 0)
        progress.step()
        progress.end_epoch(0, 2, {"train/loss": 1.0, "train/epoch_seconds": 1.0}, 1.0)
        progress.warn("x")
    got = []

    def other():
        with tqdm.get_lock():
            got.append("free")

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    thread.join(5)
    assert got == ["free"]

import pytest

from divaug.base.errors import DivaugError, naming
from divaug.base.text import one_line, plain_lines, without_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:s3cret@host:5000/x", "http://host:5000/x"),
        ("http://TOKEN@host", "http://host"),
        ("http://me:a@s3cret@host/", "http://host/"),
        ("http://me:a/s3cret@host", "http://host"),
        ("http://me:12345@host", "http://host"),
        ("https://host", "https://host"),
        ("http://127.0.0.1:9 me@x", "http://127.0.0.1:9 me@x"),
        ("postgresql://h/db?user=me&password=s3cret", "postgresql://h/db?user=me&password=***"),
        ("https://h/x?Token=s3cret#y", "https://h/x?Token=***#y"),
        ("postgresql://u:p%40ss@db/mlflow", "postgresql://u@db/mlflow"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////a:b@c/mlflow.db", "sqlite:////a:b@c/mlflow.db"),
        ("cannot reach http://a:b@h, nor http://c:d@i", "cannot reach http://h, nor http://i"),
        ("time 12:30 me:you@home", "time 12:30 me:you@home"),
    ],
)
def test_passwords_are_left_out(text, shown):
    assert without_password(text) == shown


def test_control_characters_are_shown_by_their_numbers():
    assert one_line("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert plain_lines("a\nb\x07\rc") == "a\nb\\x07\\rc"


def test_memory_that_runs_out_is_no_fault_of_a_component():
    class OutOfMemoryError(RuntimeError):
        """As torch's."""

    with (
        pytest.raises(DivaugError, match=r"^out of memory \(CUDA out of memory\); lower --batch-size, --image-size or"),
        naming("the network", object()),
    ):
        raise OutOfMemoryError("CUDA out of memory\nmore")

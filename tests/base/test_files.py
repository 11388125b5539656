import multiprocessing
import os
import random
from contextlib import suppress

import pytest
import torch

from divaug.base.errors import ConfigError, DivaugError
from divaug.base.files import (
    exclusive,
    is_locked,
    make_folder,
    read_tensors,
    to_json,
    write_json,
    write_tensors,
    write_text,
)


def test_writes_are_atomic(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"x": float("nan"), "y": [1, float("inf")]})
    assert path.read_text() == '{\n "x": null,\n "y": [\n  1,\n  null\n ]\n}\n'
    tensors = tmp_path / "a.pt"
    write_tensors(tensors, {"x": torch.arange(3), "seed": 1})
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        write_text(path, "new")
    with pytest.raises(OSError, match="power cut"):
        write_tensors(tensors, {"x": torch.arange(4)})
    assert "null" in path.read_text()
    assert torch.load(tensors, weights_only=True)["x"].tolist() == [0, 1, 2]


def test_json_leaves_other_values_alone():
    assert to_json({"a": (1, 2.5, "x", None, True)}) == {"a": [1, 2.5, "x", None, True]}


def hold(path, ready, done):
    with exclusive(path, wait=False):
        ready.set()
        done.wait(60)


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    path = tmp_path / "run.lock"
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, ready, done))
    process.start()
    ready.wait(60)
    with pytest.raises(DivaugError, match=f"in use by process {process.pid}"), exclusive(path, wait=False):
        pass
    assert is_locked(path)
    process.kill()  # no chance to clean up: the operating system releases the lock
    process.join()
    assert not is_locked(path)
    with exclusive(path, wait=True):
        assert path.read_text() == str(os.getpid())


def test_folders_that_cannot_be_made_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot make folder .*file/runs.*--output-dir"):
        make_folder(tmp_path / "file" / "runs")


def test_folders_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ConfigError, match="is not writable; choose another with --output-dir"):
        make_folder(tmp_path)


def test_a_forked_child_does_not_hold_its_parents_lock(tmp_path):
    """A worker would, after its run is dead."""
    path = tmp_path / "run.lock"
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    with exclusive(path, wait=False):
        child = context.Process(target=lambda: (ready.set(), done.wait(60)))
        child.start()
        assert is_locked(path) and ready.wait(60)
    try:
        assert child.is_alive() and not is_locked(path)
    finally:
        done.set()
        child.join()


def test_a_flipped_bit_is_found(tmp_path):
    """torch.load reads most of them as other numbers."""
    path = tmp_path / "a.pt"
    write_tensors(path, {"x": torch.arange(2000.0)})
    whole, rng = path.read_bytes(), random.Random(0)
    assert torch.equal(read_tensors(path)["x"], torch.arange(2000.0))
    silent = 0
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with suppress(ValueError):
            silent += not torch.equal(read_tensors(path)["x"], torch.arange(2000.0))
    assert silent == 0
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none.pt")

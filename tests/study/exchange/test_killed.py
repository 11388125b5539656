"""Killed twice in the middle with SIGKILL, the study gives the rows that it gives undisturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from divaug.study.exchange.plan import read_plan
from divaug.study.exchange.rows import read_rows
from divaug.study.exchange.study import rows_of
from tests.study.exchange.test_study import PLAN

pytestmark = pytest.mark.slow


def command(folder):
    return [sys.executable, "-m", "divaug.recipes.study", "run", "plan.toml", "--jobs", "2", "--output-dir", "runs"]


def prepared(folder, encoders):
    (folder / "encoders").mkdir(parents=True)
    files = [encoder.save(folder / "encoders" / f"digits-{i}") for i, encoder in enumerate(encoders)]
    text = PLAN.format(encoders=", ".join(f'"encoders/{file.name}"' for file in files))
    (folder / "plan.toml").write_text(text.replace("steps = 64", "steps = 400").replace("lr = 0.1", "lr = 0.05"))
    return read_plan(folder / "plan.toml")


def started(folder, environment):
    return subprocess.Popen(command(folder), cwd=folder, env=environment, start_new_session=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def killed_in_the_middle(folder, environment, rows):
    """Start the study and kill it and its children while a run writes checkpoints and ``rows`` runs have ended."""
    process = started(folder, environment)
    deadline = time.monotonic() + 120
    table = folder / "results" / "digits" / "runs.csv"
    while time.monotonic() < deadline and process.poll() is None:
        done = len(table.read_text().splitlines()) - 1 if table.exists() else 0
        unfinished = [
            p for p in folder.glob("runs/*/*/*/*/checkpoints/last.pt") if not (p.parents[1] / "result.json").exists()
        ]
        if done >= rows and unfinished:
            break
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read().decode()
    for child in children(process.pid):  # they have process groups of their own
        os.kill(child, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes to kill in /proc")
def test_the_same_rows_after_two_kills(tmp_path, encoders):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    plans = {name: prepared(tmp_path / name, encoders) for name in ("undisturbed", "killed")}
    assert plans["killed"].prereg == plans["undisturbed"].prereg
    subprocess.run(command(None), cwd=tmp_path / "undisturbed", env=environment, check=True, capture_output=True)
    ended = [killed_in_the_middle(tmp_path / "killed", environment, rows) for rows in (0, 1)]
    assert ended[0] < 4 and ended[1] < 4
    subprocess.run(command(None), cwd=tmp_path / "killed", env=environment, check=True, capture_output=True)
    tables = {}
    for name, plan in plans.items():
        path = rows_of(plan, "digits")
        rows = read_rows(path).drop(columns="seconds").sort_values(["arm", "cut"], ignore_index=True)
        correct = pd.read_csv(path.with_name("correct.csv")).sort_values(["arm", "cut"], ignore_index=True)
        tables[name] = rows, correct
    assert len(tables["killed"][0]) == 4
    for one, other in zip(*tables.values(), strict=True):
        pd.testing.assert_frame_equal(one, other)

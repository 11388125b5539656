"""Runs on a Ray cluster: results, errors and files arrive; a lost worker's run is done again."""

import os
import pickle
import signal
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from divaug.base.errors import ConfigError, DataError, DivaugError, DivergedError, Interrupted
from divaug.base.signals import StopRequest
from divaug.config import user_files
from divaug.config.jobs import Cluster
from divaug.study import on_ray
from divaug.study.runner import Task, run_tasks

ray = pytest.importorskip("ray", reason="ray is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)
HERE = Cluster("local", 1.0, 0.0)


@pytest.fixture(autouse=True)
def workers_find_this_module(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def square(number, folder):
    Path(folder, f"{number}.txt").write_text(f"{os.getpid()} {os.getcwd()} {os.environ['OMP_NUM_THREADS']}")
    return number**2


def refuse(message):
    raise DataError(message)


def diverge(number):
    raise DivergedError(f"not finite in {number}")


def of_user_file():
    return user_files.load(user_files.module_name("mine.py")).VALUE, user_files.imports()


def wait_for_signal(file):
    """Begin, and stop as a run does."""
    with StopRequest() as stop:
        Path(file).touch()
        until = time.monotonic() + 40
        while not stop() and time.monotonic() < until:
            time.sleep(0.05)
        Path(file).write_text("stopped" if stop() else "not asked")
        raise Interrupted(signal.SIGINT)


@pytest.mark.slow
def test_tasks_are_done_elsewhere_with_the_users_files(tmp_path, monkeypatch):
    mine = Path("lib", "mine.py").resolve()
    mine.parent.mkdir()
    mine.write_text("VALUE = 7\n")
    monkeypatch.setenv(user_files.VARIABLE, str(mine))
    monkeypatch.setenv("DIVAUG_DATA", "/somewhere")
    said, found = [], {}
    tasks = [*(Task(f"square {n}", partial(square, n, str(tmp_path))) for n in range(3)), Task("file", of_user_file)]
    run_tasks(tasks, jobs=HERE, say=said.append, finished=found.__setitem__)
    assert found == {0: 0, 1: 1, 2: 4, 3: (7, [str(mine)])}
    told = [path.read_text().split() for path in tmp_path.glob("?.txt")]
    assert {place for _, place, _ in told} == {os.getcwd()} and {threads for *_, threads in told} == {"1"}
    assert str(os.getpid()) not in {process for process, *_ in told}
    assert len(said) == 4 and said[-1].startswith("[4/4]") and "left" not in said[-1] and "left" in said[1]

    with pytest.raises(DataError, match="no such image") as raised:
        run_tasks([Task("bad", partial(refuse, "no such image"))], jobs=HERE)
    assert raised.value.exit_code == 3
    with pytest.raises(DivaugError, match="worse: ZeroDivisionError"):
        run_tasks([Task("worse", partial(divmod, 1, 0))], jobs=HERE)

    said, found = [], {}
    tasks = [Task("steep", partial(diverge, 7)), Task("square", partial(square, 3, str(tmp_path)))]
    with pytest.raises(DivergedError, match=r"^1 of 2 runs diverged, all others are done. steep: not finite in 7"):
        run_tasks(tasks, jobs=HERE, say=said.append, finished=found.__setitem__)
    assert found == {1: 9} and "steep: not finite in 7" in said

    def stop():
        while not (tmp_path / "long").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted):
        run_tasks([Task("long", partial(wait_for_signal, str(tmp_path / "long")))], jobs=HERE)
    assert (tmp_path / "long").read_text() == "stopped"


def test_a_file_that_is_not_on_the_workers_machine_is_its_copy(tmp_path, monkeypatch):
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "mine.py").write_text("VALUE = 8\n")
    monkeypatch.setattr(on_ray, "_SENT", tmp_path / "sent")
    monkeypatch.setattr(ray, "get", lambda asked: asked)
    stop = SimpleNamespace(asked=SimpleNamespace(remote=lambda: False))
    for cards in (True, False):  # a worker is used again
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        asked = pickle.dumps(of_user_file), str(tmp_path), ["/gone/mine.py", "numpy"], stop, cards
        value, imports = on_ray._do(*asked)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ("1" if cards else "")  # a run that asked for none takes none
        assert value == 8 and imports == [str(tmp_path / "sent" / "mine.py"), "numpy"]
    assert user_files.here(("/gone/mine.py", "numpy")) == (str(tmp_path / "sent" / "mine.py"), "numpy")


def test_a_cluster_that_is_not_there_is_said():
    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(ConfigError, match=f"--ray-address {address}: "):
            run_tasks([Task("x", dict)], jobs=Cluster(address, 1.0, 0.0))


def test_what_every_task_asks_outlives_its_machine_and_is_told_again():
    """Else all runs would fail with that machine, or go on after a signal."""
    options, told = [], []

    class Remote:
        def __init__(self, of=None):
            self.of = of

        def options(self, **more):
            options.append((self.of, more))
            return self

        def remote(self, *arguments):
            return SimpleNamespace(ask=SimpleNamespace(remote=lambda: told.append(1))) if self.of is on_ray._Stop else 7

    def refused(handle):
        raise DataError("no such image")

    def remote(of=None, **how):
        return Remote(of) if of is not None else lambda task: Remote(task).options(**how)

    waits = iter([[7], [], [], [8]])  # the first task fails; the other ends later
    fake = SimpleNamespace(remote=remote, wait=lambda handles, timeout: (next(waits), []), get=refused)
    work = on_ray._Work(fake, [Task("bad", dict)], Cluster("local", 2.0, 0.5), print, print, print)
    assert options[0] == (on_ray._do, {"num_cpus": 2.0, "num_gpus": 0.5, "max_retries": on_ray.RETRIES, "max_calls": 1})
    assert work.cards  # and a process that has used a card is not used again, since it would keep that card
    work = on_ray._Work(fake, [Task("bad", dict)], HERE, print, print, print)
    assert options[2][1]["max_calls"] == 0 and not work.cards
    assert options[3] == (on_ray._Stop, {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1})
    work.waiting[8] = 0
    with pytest.raises(DataError):
        work.through()
    assert len(told) == 3


@pytest.mark.slow
def test_a_lost_machine_costs_nothing():
    """Two raylets of one processor; one is killed while both train. The rows are those of one process."""
    from ray.cluster_utils import Cluster as Raylets

    from divaug.recipes import digits_lt

    methods = [
        "--methods", "erm,ros,cutmix,cmo", "--epochs", "60", "--tracking", "off", "--progress", "none", "--imbalance-factor",
        "5", "--max-per-class", "46", "--model.widths", "[8]", "--top-k", "4",
    ]  # fmt: skip
    assert digits_lt.main([*methods, "--threads", "1", "--results", "here.csv"]) == 0
    raylets = Raylets(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = raylets.add_node(num_cpus=1)

    def kill():
        while len(list(Path("cluster").glob("*/*/seed0/metrics.jsonl"))) < 2:
            time.sleep(0.05)
        raylets.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    arguments = [
        "--output-dir",
        "cluster",
        "--engine",
        "ray",
        "--ray-address",
        raylets.address,
        "--results",
        "there.csv",
    ]
    try:
        assert digits_lt.main([*methods, *arguments]) == 0
        killer.join(10)
        assert not killer.is_alive()  # a machine was lost
    finally:
        raylets.shutdown()
    here, there = (
        pd.read_csv(file)
        .sort_values("method")
        .filter(regex="method|seed|protocol|data|test|recall")
        .reset_index(drop=True)
        for file in ("here.csv", "there.csv")
    )
    pd.testing.assert_frame_equal(here, there)

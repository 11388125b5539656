"""Many runs: in order and in processes, failing, dying and being stopped."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from functools import partial
from pathlib import Path

import pytest

from divaug.base.errors import DataError, DivaugError, DivergedError, Interrupted
from divaug.base.progress import clock
from divaug.study import runner
from divaug.study.runner import Task, run_tasks


def square(number, folder, seconds=0.0):
    time.sleep(seconds)
    Path(folder, f"{number}.txt").write_text(str(os.getpid()))
    return number**2


class CannotBeRebuilt(DivaugError):
    def __init__(self, one, two="needed"):
        if isinstance(two, str) and one != "on purpose":
            raise TypeError
        super().__init__(one, two)
        self.args = (1,)


def told_threads(number, folder):
    Path(folder, str(number)).write_text(os.environ["OMP_NUM_THREADS"])


def fail(kind):
    raise kind("on purpose")


def diverge(number):
    raise DivergedError(f"not finite in {number}")


def interrupted(number):
    raise Interrupted(number, "stopped; the same command resumes it")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def unpicklable():
    return lambda: None


def stopped_alone():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)


def squares(tmp_path, count=3, seconds=0.0):
    return [Task(f"square {n}", partial(square, n, str(tmp_path), seconds)) for n in range(count)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_tasks_are_done_and_told(tmp_path, jobs):
    said, found = [], {}
    run_tasks(squares(tmp_path), jobs=jobs, say=said.append, finished=found.__setitem__)
    assert found == {0: 0, 1: 1, 2: 4}
    assert [line.split("  left ")[0] for line in said] == [f"[{n + 1}/3] square {n}" for n in range(3)]
    processes = {path.read_text() for path in tmp_path.glob("*.txt")}
    assert processes == {str(os.getpid())} if jobs == 1 else str(os.getpid()) not in processes


def test_the_time_left_is_that_of_the_tasks_done_so_far(monkeypatch):
    now, said = [100.0], []
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    durations = [60.0, 180.0, 30.0, 1.0]

    def task(n):
        now[0] += durations[n]

    run_tasks([Task(f"t{n}", partial(task, n)) for n in range(4)], say=said.append)
    assert said == ["[1/4] t0", "[2/4] t1  left 3m00s", "[3/4] t2  left 4m00s", "[4/4] t3  left 1m30s"]


def test_a_task_that_can_tell_is_asked_how_long_all_will_take(monkeypatch):
    """Its whole work takes 40 s, of which 30 are left after 2: so do the other four, and the one after them."""
    monkeypatch.setattr(runner, "_WATCH", 0.01)
    known, said = threading.Event(), []

    def pace():
        return (40.0, 30.0) if known.is_set() else None

    def first():
        known.set()
        for _ in range(500):
            if len(said) > 1:
                return
            time.sleep(0.01)

    tasks = [Task("first", first, pace), *(Task(f"t{n}", dict) for n in range(4))]
    run_tasks(tasks, after=1, say=said.append)
    assert said[:2] == ["[1/6] first", "about 4m00s for 6 runs, 0m40s each"] and said[2].startswith("[2/6] t0  left ")
    assert sum("about" in line for line in said) == 1


def test_the_time_left_has_the_tasks_under_way_and_those_that_follow(monkeypatch):
    """Two at once: one has taken 60 s, its neighbour has 20 to go, two wait and one follows alone."""
    now, said = [0.0], []
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])

    def processes(tasks, jobs, announce, finished, part, say):
        announce(0)
        now[0] = 20.0
        announce(1)
        now[0] = 60.0
        finished(0, None)
        announce(2)

    monkeypatch.setattr(runner, "_in_processes", processes)
    run_tasks([Task(f"t{n}", dict) for n in range(4)], jobs=2, after=1, say=said.append)
    assert said[-1] == f"[3/5] t2  left {clock((20 + 60 + 60) / 2 + 60)}"


def test_threads_of_this_process_are_as_before(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    run_tasks(squares(tmp_path, 2), jobs=2)
    assert os.environ["OMP_NUM_THREADS"] == "3" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("jobs", [1, 2])
def test_runs_that_diverge_are_named_and_the_others_are_done(tmp_path, jobs):
    tasks = squares(tmp_path, 4)
    for number in (0, 2):
        tasks[number] = Task(f"steep {number}", partial(diverge, number))
    said, found = [], {}
    with pytest.raises(DivergedError) as raised:
        run_tasks(tasks, jobs=jobs, say=said.append, finished=found.__setitem__)
    assert found == {1: 1, 3: 9} and raised.value.exit_code == 1
    told = [line for line in said if not line.startswith("[")]
    assert sorted(told) == [f"steep {number}: not finite in {number}" for number in (0, 2)]
    other = "steep 2" if told[0].startswith("steep 0") else "steep 0"
    assert str(raised.value) == f"2 of 4 runs diverged, all others are done. {told[0]}. The same of {other}"
    cause = raised.value.__cause__
    assert isinstance(cause, DivergedError) and "in diverge" in cause.__notes__[0]  # its traceback, for -v


def test_a_run_that_diverged_keeps_nothing_in_memory(tmp_path):
    """Its traceback would hold the network and its images until the list ends."""
    gone = []

    class Network: ...

    def train():
        network = Network()
        gone.append(weakref.ref(network))
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            raise DivergedError("not finite") from error

    def look():
        gc.collect()
        assert gone[0]() is None

    with pytest.raises(DivergedError, match="1 of 2 runs diverged"):
        run_tasks([Task("steep", train), Task("look", look)])


def test_where_all_diverge_no_others_are_said_to_be_done():
    with pytest.raises(DivergedError, match=r"^2 of 2 runs diverged\. a: not finite in 1\. The same of b"):
        run_tasks([Task("a", partial(diverge, 1)), Task("b", partial(diverge, 2))])


@pytest.mark.parametrize("jobs", [1, 2])
def test_of_one_run_that_diverges_only_that_is_said(jobs):
    said = []
    with pytest.raises(DivergedError) as raised:
        run_tasks([Task("steep", partial(diverge, 7))], jobs=jobs, say=said.append)
    assert str(raised.value) == "steep: not finite in 7" and said == ["[1/1] steep"]


def test_a_failure_after_a_run_that_diverged_is_raised(tmp_path):
    tasks = [Task("steep", partial(diverge, 0)), Task("bad", partial(fail, DataError)), *squares(tmp_path, 1)]
    with pytest.raises(DataError, match=r"^bad: on purpose"):
        run_tasks(tasks)
    assert not list(tmp_path.glob("*.txt"))


def test_a_run_that_diverged_has_no_time_left(monkeypatch):
    """Of four, one begins after 30 s and diverges beside one that takes 60: two more of 60 s are to come, two at once."""
    now, said = [0.0], []
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])

    def processes(tasks, jobs, announce, finished, part, say):
        announce(0)
        now[0] = 30.0
        announce(1)
        part(1, DivergedError("not finite"))
        now[0] = 60.0
        finished(0, None)
        announce(2)

    monkeypatch.setattr(runner, "_in_processes", processes)
    with pytest.raises(DivergedError, match="1 of 4"):
        run_tasks([Task(f"t{n}", dict) for n in range(4)], jobs=2, say=said.append)
    assert said[-1] == f"[3/4] t2  left {clock((60 + 60) / 2)}"


@pytest.mark.parametrize(
    ("do", "kind", "said"),
    [
        (partial(fail, DataError), DataError, "^bad: on purpose"),
        (partial(fail, ZeroDivisionError), DivaugError, "task 1: ZeroDivisionError: on purpose"),
        (die, DivaugError, r"the process of task 1 died \(-9\)"),
        (partial(sys.exit, 0), DivaugError, r"the process of task 1 died \(0\)"),
        (unpicklable, DivaugError, "task 1: .*pickle"),
        (stopped_alone, DivaugError, "the process of bad was stopped"),
        (lambda: None, DivaugError, "task 1 cannot be sent to a process: .*pickle"),
        (partial(fail, CannotBeRebuilt), DivaugError, "what task 1 gave back cannot be read"),
    ],
)
def test_what_fails_is_raised_and_what_has_begun_is_finished(tmp_path, monkeypatch, do, kind, said):
    monkeypatch.setattr(runner, "_PATIENCE", 1.0)
    found = {}
    with pytest.raises(kind, match=said):
        run_tasks([Task("bad", do), *squares(tmp_path, 4, 1.5)], jobs=2, finished=found.__setitem__)
    assert found.get(1) == 0 and len(found) < 4


def test_what_fails_here_is_named_too():
    with pytest.raises(DataError, match=r"^bad: on purpose$"):
        run_tasks([Task("good", dict), Task("bad", partial(fail, DataError))])
    with pytest.raises(Interrupted) as caught:
        run_tasks([Task("stopped", partial(interrupted, 15))])
    assert str(caught.value) == "stopped; the same command resumes it"  # it has not failed


def test_a_process_does_one_task_after_another(tmp_path):
    """What it imports is imported once: a run's own imports take seconds."""
    run_tasks(squares(tmp_path, 6, 0.1), jobs=2)
    assert len({path.read_text() for path in tmp_path.glob("*.txt")}) <= 2
    threads = tmp_path / "threads"
    threads.mkdir()
    run_tasks([Task(str(n), partial(told_threads, n, str(threads))) for n in range(3)], jobs=2)
    assert {path.read_text() for path in threads.iterdir()} == {"1"}


def test_one_task_has_its_own_process_too_if_jobs_were_asked_for(tmp_path):
    run_tasks(squares(tmp_path, 1), jobs=2)
    (file,) = tmp_path.glob("*.txt")
    assert file.read_text() != str(os.getpid())


def test_no_failure_is_lost_and_the_place_of_an_error_is_kept(tmp_path):
    said = []
    with pytest.raises(DataError) as caught:
        run_tasks(
            [Task("one", partial(fail, DataError)), Task("two", partial(fail, DataError))], jobs=2, say=said.append
        )
    assert [line for line in said if not line.startswith("[")] in (["one: on purpose"], ["two: on purpose"])
    assert 'raise kind("on purpose")' in caught.value.__notes__[0]  # what -v prints


STOPPED = """
import os, sys, time
from functools import partial
from pathlib import Path
from divaug.base.errors import Interrupted
from divaug.base.signals import StopRequest
from divaug.study.runner import Task, run_tasks

def work(n, folder):
    with StopRequest() as stop:
        Path(folder, f"{n}.begun").write_text(str(os.getpid()))
        for _ in range(600):
            time.sleep(0.05)
            if stop():
                Path(folder, f"{n}.stopped").touch()
                raise Interrupted(stop.signal_number)

if __name__ == "__main__":
    try:
        run_tasks([Task(str(n), partial(work, n, sys.argv[1])) for n in range(3)], jobs=2)
    except Interrupted as error:
        raise SystemExit(error.exit_code)
"""


def begun(tmp_path, program):
    """Start a program; return it and its two workers once both have begun."""
    (tmp_path / "stopped.py").write_text(program)
    process = subprocess.Popen([sys.executable, str(tmp_path / "stopped.py"), str(tmp_path)], start_new_session=True)
    deadline = time.monotonic() + 60
    while not (workers := [int(text) for path in tmp_path.glob("?.begun") if (text := path.read_text())])[1:]:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process, workers


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_stops_all_of_them_politely(tmp_path, number, code):
    """SIGINT as a terminal sends it, to the whole group; after SIGKILL the processes notice that nobody is left."""
    process, workers = begun(tmp_path, STOPPED)
    assert process.pid not in [os.getpgid(worker) for worker in workers]  # Ctrl-C while one imports: no traceback
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    assert process.wait(30) == code
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("*.stopped"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "2.begun").exists()  # what had not begun does not


SLOW_TO_STOP = STOPPED.replace("if stop():", "if stop() and time.sleep(0.5) is None:")


def test_a_scheduler_that_signals_every_process_stops_them_as_politely(tmp_path):
    """Workers have SIGTERM twice, from the scheduler and from the parent; the second must not cut their end short."""
    process, workers = begun(tmp_path, SLOW_TO_STOP)
    for each in (process.pid, *workers):
        os.kill(each, signal.SIGTERM)
    assert process.wait(30) == 143
    assert {path.name for path in tmp_path.glob("*.stopped")} == {"0.stopped", "1.stopped"}


def test_a_second_ctrl_c_stops_all_of_them_at_once(tmp_path):
    process, workers = begun(tmp_path, STOPPED.replace("if stop():", "if False:"))  # they never look
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)  # the parent has asked them
    process.send_signal(signal.SIGINT)
    process.wait(20)  # far less than the 30 s that their work takes
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_interruptions_go_through_pickle():
    import pickle

    copy = pickle.loads(pickle.dumps(Interrupted(15, "stopped")))
    assert (copy.exit_code, copy.signal_number, str(copy)) == (143, 15, "stopped")

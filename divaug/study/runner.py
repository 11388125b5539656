"""Many runs: a list of tasks, done here one after another, in processes of one thread each, or on a Ray cluster.

Every recipe that trains more than one run goes through ``run_tasks``: methods x seeds and the arms of a study alike.
Finished runs are known by their row or folder, so the same command resumes a stopped list.
"""

import os
import pickle
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from divaug.base.errors import DivaugError, Interrupted
from divaug.base.progress import clock
from divaug.base.signals import StopRequest
from divaug.config.jobs import Cluster

_WATCH = 1.0  # seconds between looks at how far a task is
_POLL = 0.2  # seconds between checks for processes that died silently
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """One thing to do.

    Attributes:
        name: What the user sees when it begins.
        do: Does the work and returns its result; with several jobs it is pickled.
        pace: Of a task in progress, seconds that its work takes in all and from now on; None where it cannot tell yet.
    """

    name: str
    do: Callable[[], Any]
    pace: Callable[[], tuple[float, float] | None] = lambda: None


def run_tasks(
    tasks: Sequence[Task],
    *,
    jobs: int | Cluster = 1,
    after: int = 0,
    say: Callable[[str], None] = lambda line: None,
    finished: Callable[[int, Any], None] = lambda number, result: None,
) -> None:
    """Do all tasks; after a failure nothing new begins, and what has begun is finished.

    Args:
        tasks: In order.
        jobs: Processes, >= 1. With 1 everything is done in this process. With more each task has a process of its own
            with one thread, however many tasks there are: results equal those of one job with one thread
            (``OMP_NUM_THREADS=1``). Or a Ray cluster.
        after: Similar tasks that the caller does when these are done, one after another: the time left has them too.
        say: Called with a line for every task as it begins, with the time left once a task has ended; before that once
            with an estimate, where a task can tell.
        finished: Called in this process with number and result of every task as it ends.

    Raises:
        Interrupted: A signal came; tasks in progress were asked to stop and have stopped.
        DivaugError: A task failed, or its process died or was stopped by itself.
    """
    if isinstance(jobs, Cluster):
        from divaug.study.on_ray import run_on_ray

        run_on_ray(tasks, jobs, say, finished)
        return
    at_once, total = max(1, min(jobs, len(tasks))), len(tasks) + after
    started, took = dict[int, float](), dict[int, float]()

    def announce(number: int) -> None:
        started[number] = now = time.monotonic()
        left = ""
        if took:
            each = sum(took.values()) / len(took)
            rests = [max(0.0, each - (now - since)) for n, since in started.items() if n not in took]
            # what comes after is done alone
            left = f"  left {clock((sum(rests) + each * (len(tasks) - len(started))) / at_once + each * after)}"
        say(f"[{number + 1}/{total}] {tasks[number].name}{left}")

    def end(number: int, result: Any) -> None:
        took[number] = time.monotonic() - started[number]
        finished(number, result)

    def estimate() -> str | None:
        for number, since in [] if took else list(started.items()):
            if (pace := tasks[number].pace()) is not None:
                whole, left = pace
                each = max(whole, time.monotonic() - since + left)  # it may have begun long ago, and been stopped
                every = each * (-(-len(tasks) // at_once) + after)
                return f"about {clock(every)} for {total} runs, {clock(each)} each"
        return None

    with _said_once(estimate, say):
        if jobs <= 1:
            for number, task in enumerate(tasks):
                announce(number)
                end(number, task.do())
        else:
            _in_processes(tasks, jobs, announce, end, say)


@contextmanager
def _said_once(find: Callable[[], str | None], say: Callable[[str], None]) -> Iterator[None]:
    """Say a line as soon as it is found, beside the work of this process."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_WATCH):
            if line := find():
                say(line)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _in_processes(
    tasks: Sequence[Task],
    jobs: int,
    announce: Callable[[int], None],
    finished: Callable[[int, Any], None],
    say: Callable[[str], None],
) -> None:
    context = get_context("spawn")  # a fork would inherit torch's threads and this process's locks
    told: Any = context.Queue()
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(
        dict.fromkeys(_THREADS, "1")
    )  # read when numpy and torch are imported, so set before a child starts
    waiting, workers, asked = list(range(len(tasks))), dict[int, Any](), set[int]()
    failure: Exception | None = None
    try:
        with StopRequest() as stop:
            while workers or (waiting and failure is None and not stop()):
                while waiting and len(workers) < jobs and failure is None and not stop():
                    number = waiting.pop(0)
                    announce(number)
                    workers[number] = context.Process(target=_work, args=(number, tasks[number].do, told, os.getpid()))
                    workers[number].start()
                for number in (
                    workers.keys() - asked if stop() else ()
                ):  # once each: a second signal would stop them at once
                    asked.add(number)
                    workers[number].terminate()
                ended = _next(told, workers)
                if ended is None:
                    continue
                number, ok, result = ended
                workers.pop(number).join()
                if ok:
                    finished(number, result)
                elif isinstance(result, Interrupted) and not stop():  # a signal to this process alone
                    failure = failure or DivaugError(f"the process of {tasks[number].name} was stopped: {result}")
                elif failure is None and not isinstance(result, Interrupted):
                    failure = result
                elif not isinstance(result, Interrupted):
                    say(f"{tasks[number].name}: {result}")  # one failure is raised, none is lost
    finally:
        for worker in workers.values():  # only if this process itself fails
            worker.terminate()
            worker.join()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    if failure is not None:
        raise failure
    if stop():
        raise Interrupted(stop.signal_number or signal.SIGINT, "stopped; the same command resumes it")


def _next(told: Any, workers: dict[int, Any]) -> tuple[int, bool, Any] | None:
    """Return the number of a task that has ended, whether it succeeded, and its result or error; None on timeout."""
    dead = [number for number, worker in workers.items() if worker.exitcode is not None]  # before the queue is read
    try:
        number, ok, packed = told.get(timeout=_POLL)
        return number, ok, pickle.loads(packed)
    except queue.Empty:
        for number in dead:  # it has said nothing
            code = workers[number].exitcode
            if code in (-signal.SIGTERM, -signal.SIGINT):
                return number, False, Interrupted(-code)
            return number, False, DivaugError(f"the process of task {number + 1} died ({code})")
        return None


def _work(number: int, do: Callable[[], Any], told: Any, parent: int) -> None:
    """Do one task in its own process and report how it ended."""
    os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which asks once
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    try:
        ended = number, True, pickle.dumps(do())  # here, since the queue's own thread would lose the error
    except DivaugError as error:
        ended = number, False, pickle.dumps(_with_trace(error))
    except KeyboardInterrupt:
        ended = number, False, pickle.dumps(Interrupted(signal.SIGINT))
    except Exception as error:
        known = DivaugError(f"task {number + 1}: {type(error).__name__}: {error}")
        ended = number, False, pickle.dumps(_with_trace(known))
    told.put(ended)
    told.close()
    told.join_thread()


def _with_trace(error: DivaugError) -> DivaugError:
    """Add the traceback of the exception being handled as a note: a pickled error has lost its own, which -v shows."""
    error.add_note(traceback.format_exc())
    return error


def _follow(parent: int) -> None:
    """Stop this process cleanly when its parent is gone: nobody is left to read its results."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

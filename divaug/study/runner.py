"""Many runs: a list of tasks, done here one after another, or in processes of one thread each.

Every recipe that trains more than one run goes through ``run_tasks``: methods x seeds and the arms of a study alike.
Finished runs are known by their row or folder, so the same command resumes a stopped list.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from divaug.base.errors import DivaugError, Interrupted
from divaug.base.signals import StopRequest

_POLL = 0.2  # seconds between checks for processes that died silently
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """One thing to do.

    Attributes:
        name: What the user sees when it begins.
        do: Does the work and returns its result; with several jobs both are pickled.
    """

    name: str
    do: Callable[[], Any]


def run_tasks(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
    finished: Callable[[int, Any], None] = lambda number, result: None,
) -> None:
    """Do all tasks; after a failure nothing new begins, and what has begun is finished.

    Args:
        tasks: In order.
        jobs: Processes, >= 1. With 1 everything is done in this process. More are spawned, each with one thread: their
            results equal those of one job with one thread (``OMP_NUM_THREADS=1``).
        say: Called with a line for every task as it begins.
        finished: Called in this process with number and result of every task as it ends.

    Raises:
        Interrupted: A signal came; tasks in progress were asked to stop and have stopped.
        DivaugError: A task failed, or its process died.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        for number, task in enumerate(tasks):
            say(f"[{number + 1}/{len(tasks)}] {task.name}")
            finished(number, task.do())
        return
    _in_processes(tasks, jobs, say, finished)


def _in_processes(
    tasks: Sequence[Task], jobs: int, say: Callable[[str], None], finished: Callable[[int, Any], None]
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
                    say(f"[{number + 1}/{len(tasks)}] {tasks[number].name}")
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
                elif failure is None and not isinstance(result, Interrupted):
                    failure = result
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
    try:
        return told.get(timeout=_POLL)
    except queue.Empty:
        for number, worker in workers.items():
            if worker.exitcode is not None and worker.exitcode != 0:  # silently: it was killed
                if worker.exitcode in (-signal.SIGTERM, -signal.SIGINT):
                    return number, False, Interrupted(-worker.exitcode)
                return number, False, DivaugError(f"the process of task {number + 1} died ({worker.exitcode})")
        return None


def _work(number: int, do: Callable[[], Any], told: Any, parent: int) -> None:
    """Do one task in its own process and report how it ended."""
    os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which asks once
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    try:
        ended: tuple[int, bool, Any] = number, True, do()
    except DivaugError as error:
        ended = number, False, error
    except KeyboardInterrupt:
        ended = number, False, Interrupted(signal.SIGINT)
    except Exception as error:
        ended = number, False, DivaugError(f"task {number + 1}: {type(error).__name__}: {error}")
    told.put(ended)
    told.close()
    told.join_thread()


def _follow(parent: int) -> None:
    """Stop this process cleanly when its parent is gone: nobody is left to read its results."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

"""Many runs: a list of tasks, done here one after another, in processes of one thread each, or on a Ray cluster.

Every recipe that trains more than one run goes through ``run_tasks``: methods x seeds and the arms of a study alike.
Finished runs are known by their row or folder, so the same command resumes a stopped list.
"""

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any

from divaug.base.errors import DivaugError, DivergedError, Interrupted
from divaug.base.progress import clock
from divaug.base.signals import StopRequest
from divaug.config.jobs import Cluster

_WATCH = 1.0  # seconds between looks at how far a task is
_PATIENCE = 60.0  # seconds that a process has for its end, a checkpoint included, before it is killed
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

    A run that diverges is no such failure: its own options are to blame, so the others are done.

    Args:
        tasks: In order.
        jobs: Processes, >= 1. With 1 everything is done in this process. With more they are done in as many processes
            with one thread each, however many tasks there are: results equal those of one job with one thread
            (``OMP_NUM_THREADS=1``). Or a Ray cluster.
        after: Similar tasks that the caller does when these are done, one after another: the time left has them too.
        say: Called with a line for every task as it begins, with the time left once a task has ended; before that once
            with an estimate, where a task can tell.
        finished: Called in this process with number and result of every task as it ends.

    Raises:
        Interrupted: A signal came; tasks in progress were asked to stop and have stopped.
        DivergedError: Runs diverged; all others are done.
        DivaugError: A task failed, or its process died or was stopped by itself.
    """
    diverged = dict[int, DivergedError]()

    def part(number: int, error: DivergedError) -> None:
        _name(tasks[number], error)
        error.__traceback__ = error.__context__ = error.__cause__ = None  # their frames hold the network and its images
        diverged[number] = error
        if len(tasks) > 1:
            say(str(error))

    if isinstance(jobs, Cluster):
        from divaug.study.on_ray import run_on_ray

        run_on_ray(tasks, jobs, say, finished, part)
    else:
        _here(tasks, jobs, after, say, finished, part, diverged)
    if diverged:
        first = next(iter(diverged.values()))
        if len(tasks) == 1:
            raise first
        names = "; ".join(tasks[number].name for number in sorted(diverged) if diverged[number] is not first)
        also = f". The same of {names}" if names else ""
        rest = ", all others are done" if len(diverged) < len(tasks) else ""
        raise DivergedError(f"{len(diverged)} of {len(tasks)} runs diverged{rest}. {first}{also}") from first


def _here(
    tasks: Sequence[Task],
    jobs: int,
    after: int,
    say: Callable[[str], None],
    finished: Callable[[int, Any], None],
    part: Callable[[int, DivergedError], None],
    diverged: Container[int],
) -> None:
    """Do all tasks on this machine, and say how long it takes."""
    at_once, total = max(1, min(jobs, len(tasks))), len(tasks) + after
    started, took = dict[int, float](), dict[int, float]()

    def announce(number: int) -> None:
        started[number] = now = time.monotonic()
        left = ""
        if took:
            each = sum(took.values()) / len(took)
            rests = [
                max(0.0, each - (now - since)) for n, since in started.items() if n not in took and n not in diverged
            ]
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
                together = f", {at_once} at a time" if at_once > 1 else ""
                return f"about {clock(every)} for {total} runs{together}, {clock(each)} each"
        return None

    with _said_once(estimate, say):
        if jobs <= 1:
            for number, task in enumerate(tasks):
                announce(number)
                try:
                    result = task.do()
                except DivergedError as error:
                    error.add_note(traceback.format_exc())  # which -v shows
                    part(number, error)
                except DivaugError as error:
                    _name(task, error)
                    raise
                else:
                    end(number, result)
        else:
            _in_processes(tasks, jobs, announce, end, part, say)


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
        watcher.join(5.0)  # never for ever: a line is not worth a run


class _Worker:
    """A process that does tasks one after another, so that what they import is imported once."""

    def __init__(self, context: Any) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, os.getpid()))
        self.process.start()
        theirs.close()  # so that the pipe ends with the process

    def give(self, number: int, do: Callable[[], Any]) -> None:
        try:
            packed = pickle.dumps(do)
        except Exception as error:  # pickle's own, or one of the task's
            packed = pickle.dumps(partial(_refuse, f"task {number + 1} cannot be sent to a process: {error}"))
        with suppress(BrokenPipeError):  # it has died, which ``ended`` finds
            self.pipe.send((number, packed))

    def ended(self, number: int) -> tuple[bool, Any] | None:
        """Return whether the task that it has succeeded, and its result or error; None while it goes on."""
        dead = self.process.exitcode is not None  # before the pipe is read
        try:
            if self.pipe.poll():
                ok, packed = self.pipe.recv()
                try:
                    return ok, pickle.loads(packed)
                except Exception as error:  # of a class that cannot be rebuilt here
                    return False, DivaugError(f"what task {number + 1} gave back cannot be read: {error}")
        except (EOFError, OSError):
            dead = True
        if not dead:
            return None
        self._end()
        code = self.process.exitcode
        if code in (-signal.SIGTERM, -signal.SIGINT):
            return False, Interrupted(-code)
        return False, DivaugError(f"the process of task {number + 1} died ({code})")

    def close(self) -> None:
        """Let it end."""
        self.pipe.close()
        self._end()

    def _end(self) -> None:
        self.process.join(_PATIENCE)
        if self.process.exitcode is None:  # a thread of the task's own holds it
            self.process.kill()
            self.process.join()


def _in_processes(
    tasks: Sequence[Task],
    jobs: int,
    announce: Callable[[int], None],
    finished: Callable[[int, Any], None],
    part: Callable[[int, DivergedError], None],
    say: Callable[[str], None],
) -> None:
    context = get_context("spawn")  # a fork would inherit torch's threads and this process's locks
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(
        dict.fromkeys(_THREADS, "1")
    )  # read when numpy and torch are imported, so set before a child starts
    waiting, busy, idle, asked = list(range(len(tasks))), dict[int, _Worker](), list[_Worker](), set[int]()
    failure: Exception | None = None
    try:
        with StopRequest() as stop:
            while busy or (waiting and failure is None and not stop()):
                while waiting and len(busy) < jobs and failure is None and not stop():
                    number = waiting.pop(0)
                    announce(number)
                    busy[number] = idle.pop() if idle else _Worker(context)
                    busy[number].give(number, tasks[number].do)
                for number in busy.keys() - asked if stop() else ():
                    asked.add(number)
                    busy[number].process.terminate()
                wait([one for worker in busy.values() for one in (worker.pipe, worker.process.sentinel)], _POLL)
                for number, worker in list(busy.items()):
                    if (ended := worker.ended(number)) is None:
                        continue
                    del busy[number]
                    if worker.process.exitcode is None:
                        idle.append(worker)
                    ok, result = ended
                    if ok:
                        finished(number, result)
                    elif isinstance(result, DivergedError):
                        part(number, result)
                    elif isinstance(result, Interrupted) and not stop():  # a signal to this process alone
                        failure = failure or DivaugError(f"the process of {tasks[number].name} was stopped: {result}")
                    elif failure is None and not isinstance(result, Interrupted):
                        failure = result
                        _name(tasks[number], result)
                    elif not isinstance(result, Interrupted):
                        say(f"{tasks[number].name}: {result}")  # one failure is raised, none is lost
    finally:
        for number, worker in busy.items():  # only if this process itself fails, or Ctrl-C came twice
            with suppress(ProcessLookupError):  # SIGTERM again would change nothing
                os.kill(worker.process.pid, signal.SIGINT if number in asked else signal.SIGTERM)
        for worker in (*busy.values(), *idle):
            worker.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    if failure is not None:
        raise failure
    if stop():
        raise Interrupted(stop.signal_number or signal.SIGINT, "stopped; the same command resumes it")


def _work(pipe: Any, parent: int) -> None:
    """Do the tasks that come through a pipe, each told when it ends, until it is closed."""
    os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which asks once
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has closed it, or is gone
        while True:
            pipe.send(_done(*pipe.recv()))


def _name(task: Task, error: Exception) -> None:
    """Put the name of a task before what it failed with."""
    if not isinstance(error, Interrupted):
        error.args = (f"{task.name}: {error}", *error.args[1:])


def _refuse(why: str) -> None:
    raise DivaugError(why)


def _done(number: int, packed: bytes) -> tuple[bool, bytes]:
    try:
        return True, pickle.dumps(pickle.loads(packed)())
    except DivaugError as error:
        return False, pickle.dumps(_with_trace(error))
    except KeyboardInterrupt:
        return False, pickle.dumps(Interrupted(signal.SIGINT))
    except Exception as error:
        return False, pickle.dumps(_with_trace(DivaugError(f"task {number + 1}: {type(error).__name__}: {error}")))


def _with_trace(error: DivaugError) -> DivaugError:
    """Add the traceback of the exception being handled as a note: a pickled error has lost its own, which -v shows."""
    error.add_note(traceback.format_exc())
    return error


def _follow(parent: int) -> None:
    """Stop this process cleanly when its parent is gone: nobody is left to read its results."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

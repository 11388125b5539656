"""Many runs on a Ray cluster: each is one remote task, and is done again, from its checkpoint, if its worker is lost.

Run folders lie on a file system that all machines share. Files named by ``--import`` are sent along.
"""

import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, DivaugError, DivergedError, Interrupted
from divaug.base.progress import clock
from divaug.base.signals import StopRequest
from divaug.config import user_files
from divaug.config.jobs import Cluster

RETRIES = 3  # of a task whose worker or machine was lost
REACH = 10  # seconds for a cluster's head to answer
CHECKPOINT = 60  # seconds for what has begun to write one
_POLL = 0.5  # seconds between looks at a stop request


def run_on_ray(
    tasks: Sequence[Any],
    cluster: Cluster,
    say: Callable[[str], None],
    finished: Callable[[int, Any], None],
    part: Callable[[int, DivergedError], None],
) -> None:
    """Do all tasks on a cluster; after a failure or a signal what has begun is asked to stop, and writes a checkpoint.

    Args:
        tasks: With ``name`` and ``do``; see ``divaug.study.runner``.
        cluster: Where, and what each of them takes.
        say: Called with a line for every task that has ended.
        finished: Called in this process with number and result of every task as it ends.
        part: Called with number and error of a run that diverged; the others go on.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
        Interrupted: A signal came.
        DivaugError: A task failed.
    """
    if not tasks:
        return
    ray = _connected(cluster, say)
    try:
        _Work(ray, tasks, cluster, say, finished, part).through()
    finally:
        ray.shutdown()


class _Work:
    """The tasks of a list that are on their way."""

    def __init__(self, ray: Any, tasks: Sequence[Any], cluster: Cluster, say: Any, finished: Any, part: Any) -> None:
        self.ray, self.tasks, self.say, self.finished, self.part = ray, tasks, say, finished, part
        # A process keeps the card that it has used first, so one of a run on cards is not used again. Ray takes
        # max_calls with the function only, not in .options.
        once = 1 if cluster.gpus else 0
        how: Any = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_retries": RETRIES, "max_calls": once}
        self.do, self.cards = ray.remote(**how)(_do), bool(cluster.gpus)
        # every task asks it, so it must outlive the machine that it happens to be on
        self.stop = ray.remote(_Stop).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        self.tries = [0] * len(tasks)
        self.waiting: dict[Any, int] = {}
        self.failure: Exception | None = None
        self.begun = time.monotonic()

    def send(self, number: int) -> None:
        self.tries[number] += 1
        packed = pickle.dumps(self.tasks[number].do)
        self.waiting[self.do.remote(packed, os.getcwd(), user_files.imports(), self.stop, self.cards)] = number

    def through(self) -> None:
        """Do all tasks, or ask those that have begun to stop after a failure or a signal."""
        for number in range(len(self.tasks)):
            self.send(number)
        with StopRequest() as stop:
            until: float | None = None  # by when what was asked to stop has written a checkpoint
            while self.waiting and (until is None or time.monotonic() < until):
                if until is None and (stop() or self.failure is not None):
                    until = time.monotonic() + CHECKPOINT
                if until is not None:
                    self.stop.ask.remote()  # again and again: if it was restarted, it has forgotten
                ended, _ = self.ray.wait(list(self.waiting), timeout=_POLL)
                for handle in ended:
                    self.take(handle, self.waiting.pop(handle), stopping=until is not None)
        if self.failure is not None:
            raise self.failure
        if stop():
            raise Interrupted(stop.signal_number or signal.SIGINT, "stopped; the same command resumes it")

    def take(self, handle: Any, number: int, *, stopping: bool) -> None:
        """Take the result of a task that has ended, or its error; a worker that was told to end loses nothing."""
        name = self.tasks[number].name
        try:
            result = self.ray.get(handle)
        except Exception as error:
            cause = getattr(error, "cause", None)
            stopped = isinstance(cause, Interrupted)
            if stopped and stopping:
                return
            if stopped and self.tries[number] <= RETRIES:
                self.send(number)
                return
            if isinstance(cause, DivergedError):
                cause.add_note(str(error))
                self.part(number, cause)
                return
            known = cause if isinstance(cause, Exception) else error
            failure = (
                known if isinstance(known, DivaugError) else DivaugError(f"{name}: {type(known).__name__}: {known}")
            )
            failure.add_note(str(error))  # the worker's traceback, which -v shows
            if self.failure is not None:
                self.say(f"{name}: {failure}")  # one failure is raised, none is lost
            self.failure = self.failure or failure
            return
        done = len(self.tasks) - len(self.waiting)
        left = clock((time.monotonic() - self.begun) / done * len(self.waiting))
        self.say(f"[{done}/{len(self.tasks)}] {name} has finished" + (f"  left {left}" if self.waiting else ""))
        self.finished(number, result)


def _connected(cluster: Cluster, say: Callable[[str], None]) -> Any:
    """Connect to the cluster, or start one on this machine, and return ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs ray: pip install 'divaug[ray]'") from error
    own = {key: value for key, value in os.environ.items() if key.startswith(("DIVAUG_", "MLFLOW_"))}
    own |= {user_files.VARIABLE: "", "OMP_NUM_THREADS": str(max(1, int(cluster.cpus)))}
    with tempfile.TemporaryDirectory() as sent:
        files = [item for item in user_files.imports() if item.endswith(".py")]
        for file in files:
            shutil.copy(file, sent)
        runtime: dict[str, Any] = {"env_vars": own, **({"working_dir": sent} if files else {})}
        try:
            _reach(cluster.address)
            ray.init(address=cluster.address, runtime_env=runtime, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--ray-address {cluster.address}: {error}") from error
    for kind, asked in (("CPU", cluster.cpus), ("GPU", cluster.gpus)):
        most = max(node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"])
        if asked > most:
            told = f"a run asks for {asked:g} {kind}, no machine of the cluster has more than {most:g}"
            say(f"note: {told}: runs wait")
    return ray


def _reach(address: str) -> None:
    """Open a connection to a cluster's head: Ray itself tries for minutes.

    Raises:
        OSError: It cannot be reached.
        ValueError: It is no address.
    """
    if address not in ("auto", "local"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=REACH).close()


_SENT = Path.cwd()  # in a worker, at its first task: where the files are that were sent along


class _Stop:
    """An actor that the workers ask whether to stop: Ray's own cancelling does not wait for a checkpoint."""

    def __init__(self) -> None:
        self.said = False

    def ask(self) -> None:
        self.said = True

    def asked(self) -> bool:
        return self.said


def _do(packed: bytes, place: str, imports: Sequence[str], stop: Any, cards: bool) -> Any:
    """Do one task in a worker: in the driver's folder and with its files if they are here too, else with the copies.

    Without ``cards`` it sees none: Ray leaves a task that asked for no GPU all of them, and it would take the first.
    """
    import ray

    if not cards:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    user_files.keep([
        str(_SENT / Path(item).name) if item.endswith(".py") and not Path(item).is_file() else item for item in imports
    ])  # fmt: skip
    if os.path.isdir(place):
        os.chdir(place)
    if ray.get(stop.asked.remote()):
        raise Interrupted(signal.SIGINT)
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(_POLL):
            if ray.get(stop.asked.remote()):
                os.kill(os.getpid(), signal.SIGTERM)  # Ray blocks SIGINT in its workers
                return

    threading.Thread(target=follow, daemon=True).start()
    try:
        return pickle.loads(packed)()
    finally:
        ended.set()

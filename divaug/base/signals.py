"""Stop cleanly: Ctrl-C or SIGTERM finishes the step and writes a checkpoint; a further Ctrl-C stops at once.

A further SIGTERM is the same request again: where a scheduler signals every process of a job, workers have it from the
scheduler and from the process that started them.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """A context in which SIGINT and SIGTERM set ``signal_number`` instead of ending the process.

    Handlers only set a flag; outside the main thread nothing is installed.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def __call__(self) -> bool:
        """Return whether a signal has come."""
        return self.signal_number is not None

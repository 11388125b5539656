"""Progress on stderr: one line per epoch, with a bar on a terminal."""

import io
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from divaug.base.text import plain_lines

MANY = 50  # epochs


class Progress:
    """Show the progress of a run.

    Args:
        mode: ``bar``, ``lines``, ``none``; ``auto`` is a bar on a terminal and lines elsewhere.
    """

    def __init__(self, mode: str = "auto") -> None:
        self._bar: Any = None
        if mode == "auto":
            mode = "bar" if self._try(lambda: _stream().isatty()) and not os.environ.get("CI") else "lines"
        self.mode = mode

    def say(self, line: str) -> None:
        """Print a line."""
        if self.mode != "none":
            self.warn(line)

    def warn(self, line: str) -> None:
        """Print a line that must not be missed, whatever the mode."""
        from tqdm import tqdm

        self._try(lambda: tqdm.write(plain_lines(line), file=_stream()))

    def _try(self, show: Callable[[], Any]) -> Any:
        """Show something; a log reader that went away, a closed stream or a full disk must not stop a run."""
        try:
            return show()
        except (OSError, ValueError):
            self._bar = None
            _free_lock()
            return None

    def start_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Show a bar for the epoch."""
        if self.mode == "bar":
            from tqdm.auto import tqdm

            options: Any = {"file": _stream(), "initial": done, "unit": "step", "leave": False, "dynamic_ncols": True}
            self._bar = self._try(lambda: tqdm(total=steps, desc=f"epoch {epoch + 1}/{epochs}", **options))

    def step(self) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._try(self._bar.update)

    def end_epoch(self, epoch: int, epochs: int, metrics: Mapping[str, float], eta_seconds: float) -> None:
        """Close the bar and print the epoch's line."""
        if self._bar is not None:
            self._try(self._bar.close)
            self._bar = None
        if epochs > MANY and "test/bal_acc" not in metrics:
            return  # with many epochs, only those that were evaluated get a line
        parts = [f"epoch {epoch + 1}/{epochs}", f"loss {metrics['train/loss']:.3f}"]
        if "test/bal_acc" in metrics:
            parts.append(f"test bal {100 * metrics['test/bal_acc']:.1f}")
            named = [("head", "head"), ("mid", "mid"), ("tail", "tail")]
            parts += [f"{name} {100 * metrics[f'test/acc_{key}']:.0f}" for name, key in named]
        if "views/number_tail" in metrics and metrics["views/number_tail"] == metrics["views/number_tail"]:
            parts.append(f"top-K tail {metrics['views/number_tail']:.1f}")
        parts += [f"{metrics['train/epoch_seconds']:.1f}s", f"left {clock(eta_seconds)}"]
        self.say("  ".join(parts))


def _free_lock() -> None:
    """Release tqdm's lock where this thread holds it: ``refresh`` keeps it if its stream fails, and others wait."""
    from tqdm import tqdm

    with suppress(RuntimeError, AssertionError):  # not held, or not any more
        while True:
            tqdm.get_lock().release()


def _stream() -> Any:
    """Return standard error, or nothing in its place if it was closed before Python started."""
    return io.StringIO() if sys.stderr is None else sys.stderr


def clock(seconds: float) -> str:
    """Return seconds as text: 4m07s, 2h05m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"

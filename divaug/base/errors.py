"""The errors a user can cause; each carries the exit code of the command line."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any


class DivaugError(Exception):
    """Something failed while running (exit code 1)."""

    exit_code = 1


class ConfigError(DivaugError, ValueError):
    """A name, key, type or value is wrong; nothing was started (exit code 2)."""

    exit_code = 2


class DataError(DivaugError):
    """Data are missing, damaged or unusable (exit code 3)."""

    exit_code = 3


class DivergedError(DivaugError):
    """A loss or a gradient is not finite: this run cannot go on, others may (exit code 1)."""


class Interrupted(DivaugError):
    """A signal asked the run to stop; a checkpoint was written (exit code 128 + signal)."""

    def __init__(self, signal_number: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.signal_number, self.exit_code = signal_number, 128 + signal_number

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[int, str]]:  # through pickle between processes
        return Interrupted, (self.signal_number, str(self))


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """Return the allowed names, after "did you mean 'x'? " if one is similar."""
    names = sorted(allowed)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}Allowed: {', '.join(names) or 'none'}."


@contextmanager
def naming(what: str, component: Any) -> Iterator[None]:
    """Name the component whose code raises something in the block, ``sys.exit`` included.

    Raises:
        DivaugError: It did.
    """
    try:
        yield
    except (DivaugError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's: the component is not to blame
            said = str(error).splitlines()[0]
            raise DivaugError(f"out of memory ({said}); lower --batch-size, --image-size or --jobs") from error
        name = f"{what} {type(component).__name__}"
        raise broken(name, f"raised {type(error).__name__}: {error} (-v shows where)") from error


def broken(name: str, how: str) -> DivaugError:
    """Return the error of a component that breaks its contract, with the command that shows how."""
    return DivaugError(f"{name} {how}; python -m divaug.recipes.check tests it")

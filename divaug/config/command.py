"""What every recipe's command line has: a parser that suggests the flag that was meant, messages and exit codes."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, NoReturn

from divaug.base.errors import ConfigError, DivaugError, suggestion
from divaug.base.text import plain_lines, without_password
from divaug.config import user_files
from divaug.config.jobs import processes


class _Told(SystemExit):
    """The help that was asked for has been printed."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ``ConfigError``; flags may not be abbreviated.

    Args:
        program: Shown in the usage.
        description: Shown in --help as it stands.
    """

    def __init__(self, program: str, description: str | None) -> None:
        super().__init__(
            program, description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the program after --help."""
        raise _Told(status)

    def error(self, message: str) -> NoReturn:
        """Raise ``ConfigError``."""
        raise ConfigError(f"{message}. See --help")

    def read(self, arguments: Sequence[str], *, intermixed: bool = False) -> argparse.Namespace:
        """Return the values of the arguments.

        Args:
            arguments: What was typed.
            intermixed: Positional arguments may be left out, and options may stand between them.

        Raises:
            ConfigError: An argument is unknown, missing or wrong.
        """
        parse = self.parse_known_intermixed_args if intermixed else self.parse_known_args
        known, unknown = parse(arguments)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise ConfigError(f"unknown argument {unknown[0]!r}; {_near_flag(unknown[0], flags)}")
        return known


def _near_flag(argument: str, flags: list[str]) -> str:
    if not argument.startswith("-"):
        return "this recipe takes no such positional argument"
    return suggestion(argument.split("=", maxsplit=1)[0], flags).split("Allowed:")[0] + "see --help"


def add_trust(parser: Any) -> None:
    """Add ``--trust-imports`` to a recipe that reads run folders."""
    text = "run the files that run folders name as their own components; otherwise only what --import names is run"
    parser.add_argument("--trust-imports", action=_Trust, nargs=0, help=text)


SEVERAL = ("cifar_lt", "digits_lt", "folder_lt")  # recipes that torchrun may start as one run


class _Trust(argparse.Action):
    """Trusts run folders as soon as the flag is read."""

    def __call__(self, *anything: object) -> None:
        user_files.trust()


def main(program: str, argv: Sequence[str] | None, work: Callable[[list[str]], int]) -> int:
    """Run a recipe's work and turn errors into messages and exit codes (0, 1, 2, 3, 130, 143).

    Args:
        program: Name shown in messages.
        argv: Arguments; None takes those of the process.
        work: Takes the arguments and returns the exit code.
    """
    _open_streams()
    for stream in (sys.stdout, sys.stderr):  # a log or terminal in ASCII or Latin-1 must not end a run
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if processes() > 1 and program not in SEVERAL:
            raise ConfigError(f"{program} does not run under torchrun; {', '.join(SEVERAL)} do")
        code = work(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of the results has exited, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would fail when it flushes
        return 1
    except KeyboardInterrupt:
        return _fail(program, "interrupted", 130, "-v" in arguments)
    except DivaugError as error:
        return _fail(program, str(error) or "interrupted", error.exit_code, "-v" in arguments)
    except _Told:
        raise
    except SystemExit as error:  # a user's file called sys.exit while it was imported
        where = "one of your own files called sys.exit" if error.code is None else f"sys.exit({error.code!r})"
        return _fail(program, f"stopped by {where}", 1, "-v" in arguments)
    except Exception as error:
        return _fail(program, f"{type(error).__name__}: {error} (-v shows where)", 1, "-v" in arguments)


def _fail(program: str, message: str, code: int, verbose: bool) -> int:
    """Print what stopped a recipe, on one line of printable characters, and return its exit code."""
    with suppress(OSError, ValueError):  # nobody reads it
        if verbose:
            traceback.print_exc()
        print(f"{program}: {plain_lines(without_password(message))}", file=sys.stderr, flush=True)
    return code


def _open_streams() -> None:
    """Open /dev/null in place of standard streams that were closed, so that no file gets their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))

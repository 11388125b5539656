"""What every recipe's command line has: a parser that suggests the flag that was meant, messages and exit codes."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import NoReturn

from divaug.base.errors import ConfigError, DivaugError, suggestion


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

    def error(self, message: str) -> NoReturn:
        """Raise ``ConfigError``."""
        raise ConfigError(f"{message}. See --help")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the values of the arguments.

        Raises:
            ConfigError: An argument is unknown, missing or wrong.
        """
        known, unknown = self.parse_known_args(arguments)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            raise ConfigError(f"unknown argument {unknown[0]!r}; {_near_flag(unknown[0], flags)}")
        return known


def _near_flag(argument: str, flags: list[str]) -> str:
    if not argument.startswith("-"):
        return "this recipe takes no such positional argument"
    return suggestion(argument.split("=", maxsplit=1)[0], flags).split("Allowed:")[0] + "see --help"


def main(program: str, argv: Sequence[str] | None, work: Callable[[list[str]], int]) -> int:
    """Run a recipe's work and turn errors into messages and exit codes (0, 1, 2, 3, 130, 143).

    Args:
        program: Name shown in messages.
        argv: Arguments; None takes those of the process.
        work: Takes the arguments and returns the exit code.
    """
    for stream in (sys.stdout, sys.stderr):  # a log or terminal in ASCII or Latin-1 must not end a run
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return work(arguments)
    except (DivaugError, KeyboardInterrupt) as error:
        if "-v" in arguments:
            traceback.print_exc()
        code = error.exit_code if isinstance(error, DivaugError) else 130
        print(f"{program}: {error or 'interrupted'}", file=sys.stderr)
        return code
    except BrokenPipeError:  # the reader of the pipe has exited, as head does
        sys.stderr.close()
        return 1
    except Exception as error:
        if "-v" in arguments:
            traceback.print_exc()
        print(f"{program}: {type(error).__name__}: {error} (-v shows where)", file=sys.stderr)
        return 1

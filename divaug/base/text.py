"""Text from users (class names, paths, addresses) in what we print and keep."""

import re


def one_line(text: str) -> str:
    """Return a text in one line, as it can be printed: control characters by their numbers.

    A newline in a class name would otherwise forge a line of a table.
    """
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else ascii(c)[1:-1] for c in text)


def plain_lines(text: str) -> str:
    """Return a text of several lines with every other control character by its number."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def without_password(text: str) -> str:
    """Return a text without the passwords of the addresses in it: ``http://me:secret@host`` gives ``http://me@host``."""
    return re.sub(r"(\w://[^\s/@:]*):[^\s/@]*@", r"\1@", text)

"""Text from users (class names, paths, addresses) in what we print and keep, and numbers in words."""

import re
from collections.abc import Sequence


def one_line(text: str) -> str:
    """Return a text in one line, as it can be printed: control characters by their numbers.

    A newline in a class name would otherwise forge a line of a table.
    """
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else ascii(c)[1:-1] for c in text)


def plain_lines(text: str) -> str:
    """Return a text of several lines with every other control character by its number."""
    return "\n".join(one_line(line) for line in text.split("\n"))


_SECRET = r"password|passwd|pwd|sslpassword|token|access_token|api_key|secret"


def without_password(text: str) -> str:
    """Return a text without the secrets of the addresses in it.

    ``http://me:secret@host`` gives ``http://host``, where the name may be a token; a database keeps its user's name:
    ``postgresql://me@host``. Values of ``?password=`` and the like become stars.
    """
    text = re.sub(r"(https?://)(?![^\s/@:]*(?::\d+)?(?:/|\s|$))\S*@", r"\1", text)
    text = re.sub(r"(\w://[^\s/@:]*):(?!\d+(?:/|\s|$))\S*@", r"\1@", text)
    return re.sub(rf"([?&](?:{_SECRET})=)[^&\s#]*", r"\1***", text, flags=re.IGNORECASE)


def span(numbers: Sequence[int]) -> str:
    """Return "5", or "5 to 9"."""
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"

"""Text from users (class names, paths) in what we print."""


def one_line(text: str) -> str:
    """Return a text in one line, as it can be printed: control characters by their numbers.

    A newline in a class name would otherwise forge a line of a table.
    """
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else ascii(c)[1:-1] for c in text)

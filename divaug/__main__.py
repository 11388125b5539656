"""``divaug NAME ...`` runs ``python -m divaug.recipes.NAME ...``; without a name it lists the recipes."""

import ast
import sys
from importlib import import_module
from pathlib import Path

from divaug.base.errors import suggestion


def recipes() -> dict[str, str]:
    """Return the recipes: name to the first line of the file's docstring."""
    files = sorted((Path(__file__).parent / "recipes").glob("[a-z]*.py"))
    return {
        file.stem: (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]
        for file in files
    }


def main() -> int:
    """Run the named recipe."""
    known = recipes()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(len(name) for name in known)
        print("usage: divaug RECIPE [--help] ...\n")
        print("\n".join(f"  {name.ljust(width)}  {text}" for name, text in known.items()))
        return 0
    if arguments[0] not in known:
        print(f"divaug: unknown recipe {arguments[0]!r}; {suggestion(arguments[0], known)}", file=sys.stderr)
        return 2
    return import_module(f"divaug.recipes.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main())

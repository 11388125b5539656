"""What a file of pretrained weights is, and what images it was trained with: read without torch."""

import json
from pathlib import Path

from divaug.base.errors import DivaugError
from divaug.base.files import file_digest


def digest_of(path: str | Path) -> str | None:
    """Return eight hex digits for a file's content; None where it cannot be read."""
    try:
        return file_digest(Path(path))[:8]
    except (OSError, DivaugError):
        return None


def input_beside(path: str | Path) -> tuple[int, tuple[float, ...]] | None:
    """Return image size and normalisation (means, then deviations) of a model folder's weights; None for other files.

    Args:
        path: The weights; ``model.json`` beside them says what they were trained with.
    """
    try:
        transform = json.loads((Path(path).parent / "model.json").read_text(encoding="utf-8"))["transform"]
        return int(transform["shape"][0]), (*map(float, transform["mean"]), *map(float, transform["std"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""Runs and their comparison, shown in a notebook: tables and figures as one piece of HTML."""

import base64
import html
import tempfile
from pathlib import Path

from divaug.base.errors import DivaugError
from divaug.report.class_table import class_table
from divaug.report.compare import compare
from divaug.report.comparison_page import write_report
from divaug.report.frames import Paths, runs_at


class Shown:
    """What ``show`` returns: a notebook shows it as tables and figures, a terminal as text.

    Attributes:
        text: The tables.
        figures: PNG files' contents by name.
    """

    def __init__(self, text: str, figures: dict[str, bytes]) -> None:
        self.text, self.figures = text, figures

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img style="max-width: 100%" alt="{html.escape(name)}" '
            f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
            for name, content in self.figures.items()
        )
        return f'<pre style="overflow-x: auto">{html.escape(self.text)}</pre>{images}'


def show(paths: Paths) -> Shown:
    """Show one finished run (its class table and figures), or compare several (table and figures).

    Args:
        paths: A run, or run folders, or folders with runs below them.

    Raises:
        DivaugError: There is no finished run, or there are several protocols or data sets, which cannot be compared.

    Example:
        >>> import divaug, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     keys = {"dataset": "digits", "epochs": 1, "tracking": "off", "progress": "none"}
        ...     run = divaug.run(divaug.configure(**keys, output_dir=folder))
        ...     shown = divaug.show(run)
        >>> sorted(shown.figures), "recall %" in shown.text
        (['confusion.png', 'growth.png', 'recall.png', 'taken_for.png'], True)
    """
    comparisons = compare(runs_at(paths))
    if len(comparisons) > 1:
        raise DivaugError(f"runs of {len(comparisons)} protocols or data sets cannot be shown together: name fewer")
    runs = [folder for members in comparisons[0].runs.values() for folder in members]
    if len(runs) == 1:
        return Shown(class_table(runs), _contents(sorted(runs[0].figures.glob("*.png"))))
    with tempfile.TemporaryDirectory() as folder:
        files = write_report(Path(folder), comparisons[0])
        return Shown(comparisons[0].text, _contents([file for file in files if file.suffix == ".png"]))


def _contents(files: list[Path]) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in files}

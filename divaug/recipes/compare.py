"""Compare finished runs with a baseline: tests, intervals, a page that can be sorted, figures.

    python -m divaug.recipes.compare runs/cifar10-exp100-fast
    python -m divaug.recipes.compare cifar10-exp100-fast --baseline ros --contrasts cmo,cutmix --margin 0.5
    python -m divaug.recipes.compare recipes/methods/cifar10.csv --report comparison
    python -m divaug.recipes.compare runs/cifar10-exp100-fast-1a2b3c4d --encoder runs/encoders/cifar10-b-1a2b3c4d.pt
    python -m divaug.recipes.compare recipes/augmentation/cifar10.csv --cards recipes/augmentation/cifar10.md

Runs of different protocols never share a table. Verdicts are corrected for the number of methods that are compared with
the baseline: name them with --contrasts before you look. The encoder (python -m divaug.recipes.encoder) must not have
seen the runs' training images. In its space all numbers are of top-K FE. They describe clean training images, which are
the same for all methods on one cut, and the views of each run's last five epochs, which differ.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, DivaugError
from divaug.config.command import Parser, add_trust
from divaug.config.command import main as run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug.recipes.compare", __doc__)
        text = "run folders, folders that hold them, an experiment's name below ./runs, or a CSV written by --results"
        parser.add_argument("runs", nargs="+", metavar="RUN", help=text)
        text = "method that the others are compared with (default: erm, else the first)"
        parser.add_argument("--baseline", metavar="METHOD", help=text)
        text = "methods whose differences are tested, corrected for their number (default: all)"
        parser.add_argument("--contrasts", metavar="A,B", default="", help=text)
        text = "largest difference in points that does not matter, for the test of equivalence (default: 1)"
        parser.add_argument("--margin", metavar="POINTS", type=float, default=1.0, help=text)
        text = "folder for the page, tables and figures (default: report, beside the methods; CSV: only printed)"
        parser.add_argument("--report", metavar="DIR", help=text)
        parser.add_argument("--encoder", metavar="FILE", help="common encoder in whose space to measure")
        parser.add_argument("--allow-overlap", action="store_true", help="accept images that the encoder has seen")
        text = "with a CSV: write one card per method to FILE.md and FILE.html"
        parser.add_argument("--cards", metavar="FILE.md", help=text)
        add_trust(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments)
        os.environ.setdefault("MPLBACKEND", "Agg")

        from divaug.report.compare import Asked, compare, compare_rows
        from divaug.report.tuning import TUNING, read_tuning
        from divaug.runs.folder import find_runs

        tables = [run for run in chosen.runs if run.lower().endswith(".csv")]
        if chosen.cards is not None and (len(tables) != 1 or not chosen.cards.endswith(".md")):
            raise ConfigError("--cards FILE.md needs one CSV to compare, and a name that ends in .md")
        named = tuple(name.strip() for name in chosen.contrasts.split(",") if name.strip())
        asked = Asked(chosen.baseline, named, chosen.margin)
        folder = None if chosen.report is None else Path(chosen.report)
        comparisons = []
        if tables:
            import pandas as pd

            rows = _once(pd.concat([_rows(file) for file in tables], ignore_index=True))
            tried = [read_tuning(Path(file).with_suffix(f".{TUNING}")) for file in tables]
            known = [table for table in tried if table is not None]
            comparisons += compare_rows(rows, asked, pd.concat(known, ignore_index=True) if known else None)
            if chosen.cards is not None:
                _write_cards(rows, tables[0], chosen.cards)
        if chosen.encoder is not None and len(tables) == len(chosen.runs):
            raise ConfigError("--encoder needs run folders: the rows of a CSV have no images")
        if chosen.allow_overlap and chosen.encoder is None:
            raise ConfigError("--allow-overlap has no effect here; use it with --encoder")
        if runs := [_place(run) for run in chosen.runs if run not in tables]:
            comparisons += compare(find_runs(runs), asked)
        _show(comparisons, folder, chosen.encoder, chosen.allow_overlap)
        return 0

    return run_main("compare", argv, work)


def _place(run: str) -> str:
    """Return a run's path; an experiment may be given by its name."""
    below = Path("runs") / run
    return str(below) if not Path(run).exists() and below.is_dir() else run


def _rows(file: str) -> Any:
    from divaug.report import results

    table = results.read(Path(file))
    if not len(table):
        raise DivaugError(f"{file} is missing or has no rows; --results writes such a file")
    return table


def _once(rows: Any) -> Any:
    """Return rows of several files, refusing a run that is in two of them."""
    from divaug.report import results

    if len(twice := rows[rows.duplicated(list(results.KEYS))]):
        of = twice.iloc[0]
        raise DivaugError(
            f"{of['method']}, seed {of['seed']}, of {of['experiment']} is there twice; name one file of it"
        )
    return rows


def _write_cards(rows: Any, file: str, cards: str) -> None:
    from divaug.report.cards import write_cards

    command = shlex.join(["python", "-m", "divaug.recipes.compare", file, "--cards", cards])
    print("cards: " + "  ".join(map(str, write_cards(rows, Path(cards), command))))


def _show(comparisons: list[Any], report: Path | None, encoder: str | None, allow_overlap: bool) -> None:
    """Print comparisons and write their reports, each in a folder of its own."""
    from divaug.base.progress import Progress
    from divaug.report.common_space import common_space, summary
    from divaug.report.comparison_page import write_report
    from divaug.runs.tracking import mirror_report

    for comparison in comparisons:
        print(comparison.text)
        first = next(iter(comparison.runs.values()))[0] if comparison.runs else None
        folder = report if first is None else report or first.path.parents[1] / "report"
        if folder is None:
            print()
            continue
        if len(comparisons) > 1:
            folder /= comparison.name
        files = write_report(folder, comparison)
        if first is not None and encoder is not None:
            table = common_space(comparison.runs, encoder, allow_overlap)
            files.append(folder / "common_space.csv")
            table.to_csv(files[-1], index=False, float_format="%.5g")
            print(f"\nin the space of {os.path.basename(encoder)}\n{summary(table)}")
        if first is not None and len(comparison.runs) > 1:
            mirror_report(first, folder, files, Progress().warn)
        print("\nfiles: " + "  ".join(os.path.relpath(file) for file in files) + "\n")


if __name__ == "__main__":
    sys.exit(main())

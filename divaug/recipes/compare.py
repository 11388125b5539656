"""Compare finished runs: table and figures, and with --encoder their diversity in one common space.

    python -m divaug.recipes.compare runs/cifar10-exp100-fast
    python -m divaug.recipes.compare runs/cifar10-exp100-fast-1a2b3c4d --encoder runs/encoders/cifar10-b-1a2b3c4d.pt
    python -m divaug.recipes.compare recipes/augmentation/cifar10.csv --cards recipes/augmentation/cifar10.md

Runs of different protocols never share a table. The encoder (python -m divaug.recipes.encoder) must not have seen the
runs' training images. In its space all numbers are of top-K FE. They describe clean training images, which are the
same for all methods on one cut, and the views of each run's last five epochs, which differ.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from divaug.base.errors import ConfigError, DivaugError
from divaug.config.command import Parser, add_trust
from divaug.config.command import main as run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug.recipes.compare", __doc__)
        parser.add_argument(
            "runs", nargs="+", metavar="RUN", help="run folders, folders that hold them, or a CSV written by --results"
        )
        parser.add_argument("--encoder", metavar="FILE", help="common encoder in whose space to measure")
        parser.add_argument("--allow-overlap", action="store_true", help="accept images that the encoder has seen")
        text = "with a CSV: write one card per method to FILE.md and FILE.html"
        parser.add_argument("--cards", metavar="FILE.md", help=text)
        parser.add_argument("--report", metavar="DIR", help="folder for figures (default: report, beside the methods)")
        add_trust(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments)
        os.environ.setdefault("MPLBACKEND", "Agg")

        from divaug.config.tables import protocol_fingerprint
        from divaug.report import results
        from divaug.report.cards import write_cards
        from divaug.report.common_space import common_space, summary
        from divaug.report.compare import compare, write_report
        from divaug.runs.folder import find_runs

        tables = [run for run in chosen.runs if run.lower().endswith(".csv")]
        if chosen.cards is not None and (len(tables) != 1 or not chosen.cards.endswith(".md")):
            raise ConfigError("--cards FILE.md needs one CSV to compare, and a name that ends in .md")
        for file in tables:
            chosen.runs.remove(file)
            table = results.read(Path(file))
            if not len(table):
                raise DivaugError(f"{file} is missing or has no rows; --results writes such a file")
            print(f"{file}: mean ± sd over seeds\n{results.summary(table).to_string(index=False)}\n")
            if chosen.cards is not None:
                command = shlex.join(["python", "-m", "divaug.recipes.compare", file, "--cards", chosen.cards])
                print("cards: " + "  ".join(map(str, write_cards(table, Path(chosen.cards), command))))
        if not chosen.runs:
            return 0

        comparisons = compare(find_runs(chosen.runs))
        for comparison in comparisons:
            print(comparison.text)
            first = next(iter(comparison.runs.values()))[0]
            folder = Path(chosen.report) if chosen.report else first.path.parents[1] / "report"
            if len(comparisons) > 1:  # a folder for each protocol
                folder /= f"{protocol_fingerprint(first.config)}-{first.manifest['data']}"
            files = write_report(folder, comparison)
            if chosen.encoder is not None:
                table = common_space(comparison.runs, chosen.encoder, chosen.allow_overlap)
                files.append(folder / "common_space.csv")
                table.to_csv(files[-1], index=False, float_format="%.5g")
                print(f"\nin the space of {os.path.basename(chosen.encoder)}\n{summary(table)}")
            print("\nfiles: " + "  ".join(os.path.relpath(file) for file in files) + "\n")
        return 0

    return run_main("compare", argv, work)


if __name__ == "__main__":
    sys.exit(main())

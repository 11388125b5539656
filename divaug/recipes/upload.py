"""Mirror finished run folders in MLflow, after an outage or from another machine.

python -m divaug.recipes.upload runs/cifar10-exp100-fast
python -m divaug.recipes.upload RUN --tracking http://tracking.example:5000
"""

import sys
from collections.abc import Sequence

from divaug.base.progress import Progress
from divaug.config.command import Parser, add_trust
from divaug.config.command import main as run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug.recipes.upload", __doc__)
        parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders that hold them")
        parser.add_argument("--tracking", metavar="URI", help="tracking URI (default: the run's own)")
        add_trust(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments)

        from divaug.runs.folder import find_runs
        from divaug.runs.tracking import upload

        for folder in find_runs(chosen.runs):
            upload(folder, chosen.tracking, Progress().warn)
            print(folder.path)
        return 0

    return run_main("upload", argv, work)


if __name__ == "__main__":
    sys.exit(main())

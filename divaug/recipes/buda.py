"""Repeat Buda et al. (2018) narrowly: what does imbalance cost, and do over- and undersampling or thresholds mend it?

    python -m divaug.recipes.buda --jobs 2                        # 224 short runs; continues where it stopped
    python -m divaug.recipes.buda --report                        # of the rows there are
    python -m divaug.recipes.buda --smoke                         # everything, on digits, in minutes

CIFAR-10 and Fashion-MNIST, at most 1,000 images per class; step and linear profiles with ratios of 10 and 50; plain
training, oversampling (full, to half), undersampling (full, in part), two phases, thresholds after training, and a
balanced cut of the same total. For each of the study's five conclusions it says whether it holds here, does not, or
cannot be told. Rows are known by protocol and data: a finished run is never trained again.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError
from divaug.config.command import Parser
from divaug.config.command import main as run_main
from divaug.config.flags import parse_seeds
from divaug.config.jobs import add_jobs, jobs_of

DATASETS = ("cifar10", "fashion_mnist")
SMOKE: dict[str, Any] = {
    "epochs": 2, "max_per_class": 100, "batch_size": 32, "model": {"name": "whitened_cnn", "widths": [8, 16]},
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug.recipes.buda", __doc__)
        parser.add_argument("--datasets", default=",".join(DATASETS), metavar="A,B", help="data sets of ten classes")
        parser.add_argument("--seeds", default="0-3", metavar="0-3", help="one cut each (default: 0-3)")
        text = "CSV with a row per run (default: OUTPUT_DIR/buda.csv)"
        parser.add_argument("--results", metavar="CSV", help=text)
        parser.add_argument("--output-dir", default="runs", metavar="DIR", help="folder of all runs (default: runs)")
        parser.add_argument("--data-root", metavar="DIR", help="look for the data in this folder only")
        parser.add_argument("--report", action="store_true", help="train nothing: judge the rows there are")
        parser.add_argument("--smoke", action="store_true", help="a tiny study of digits")
        parser.add_argument("--quiet", action="store_true", help="print results only")
        add_jobs(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        return _work(parser.read(arguments), shlex.join(["python", "-m", "divaug.recipes.buda", *arguments]))

    return run_main("buda", argv, work)


def _work(chosen: Any, command: str) -> int:
    datasets = [name.strip() for name in chosen.datasets.split(",") if name.strip()]
    if not datasets or len(set(datasets)) < len(datasets):
        raise ConfigError(f"--datasets must name data sets, each once, got {chosen.datasets!r}")
    seeds, jobs = parse_seeds(chosen.seeds), jobs_of(chosen.jobs)
    from divaug.base.errors import DivaugError
    from divaug.base.progress import Progress
    from divaug.report import results
    from divaug.study.buda import cells_of, judge, scores_of, train_all
    from divaug.study.buda_report import lines_of, write_report

    keys = {"output_dir": chosen.output_dir, "data_root": chosen.data_root}
    cells = cells_of(["digits"], (10,)) if chosen.smoke else cells_of(datasets)
    if chosen.smoke:
        keys |= SMOKE
    rows = Path(chosen.results or Path(chosen.output_dir) / ("buda_smoke.csv" if chosen.smoke else "buda.csv"))
    if not chosen.report:
        say = Progress("none" if chosen.quiet else "auto").say
        train_all(cells, seeds[:2] if chosen.smoke else seeds, rows, jobs=jobs, say=say, **keys)
    scores = scores_of(results.read(rows), cells, seeds, **keys)
    if not len(scores):
        raise DivaugError(f"{rows} has no row of these runs; leave out --report to train them")
    contrasts, claims = judge(scores)
    print("\n".join(lines_of(contrasts, claims)))
    files = write_report(rows.parent / f"{rows.stem}_report", scores, contrasts, claims, command)
    print("report: " + "  ".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

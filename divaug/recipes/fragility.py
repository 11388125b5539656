"""Test the claims of "Understanding CNN Fragility When Learning With Imbalanced Data" (arXiv 2210.09465).

    python -m divaug.recipes.fragility                       # digits, ten seeds: the study
    python -m divaug.recipes.fragility --config recipes/fragility/fashion_mnist.toml --seeds 0-7
    python -m divaug.recipes.fragility runs/cifar10-exp100-fast/erm    # finished runs: their latent report

Without RUN it trains, for every seed, long-tailed, balanced and balanced_small networks with the losses of erm, focal
and ldam_drw, the repeats that the nulls need, and networks with a patch planted in one class. It then judges the claims
C0, C1, C2, C2b and C4: effect, interval, null, and the verdict supported, contradicted, not decided or not measurable
(classes that are not learned have no recall to lose). A study that was stopped continues with the same command; runs
whose rows are in --evidence are not trained again. --beside names verdict tables of other data sets: Holm's correction
covers their primary rows too.

With RUN (run folders, folders that hold them, or a run's checkpoint) it writes all tables, figures and feature cards
of each run. The claims are about differences between networks and need the study.
"""

import csv
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, DataError
from divaug.config import flags
from divaug.config.command import add_trust
from divaug.config.command import main as run_main
from divaug.config.jobs import add_jobs, jobs_of
from divaug.config.tables import dump

RECIPE = {"dataset": "digits", "profile": "exp"}
METHODS = ("erm", "focal", "ldam_drw")
SEEDS = "0-9"
OF_A_CUT = {
    "--profile", "--counts", "--class-order", "--subset", "--vary", "--split-seed", "--eval-every", "--monitor-at",
}  # fmt: skip
OF_A_REPORT = {
    "--class", "--encoder", "--allow-overlap", "--no-allow-overlap", "--trust-imports", "--import", "--dry-run",
    "--print-config", "--progress", "--quiet", "-v", "--help", "--help-all", "-h", "--list", "--describe",
}  # fmt: skip
SMOKE = {"dataset": "digits", "epochs": 2, "max_per_class": 30, "imbalance_factor": 5.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        runs = []
        while arguments and not arguments[0].startswith("-"):
            runs.append(arguments.pop(0))
        given = {argument.partition("=")[0] for argument in arguments}
        flagged = {argument for argument in given if argument.startswith("-")}
        if idle := sorted(flagged - OF_A_REPORT if runs else flagged & ({"--class"} | OF_A_CUT)):
            of = "finished runs, which are reported as they are" if runs else "the study, whose arms set it"
            raise ConfigError(f"{idle[0]} has no effect on {of}")
        if not runs and not {"--seed", "--seeds", "--smoke", "--help", "-h"} & given:
            arguments = [*arguments, "--seeds", SEEDS]
        request = flags.parse(
            "divaug.recipes.fragility", __doc__ or "", arguments, RECIPE, methods=METHODS, smoke=SMOKE, own_flags=_flags
        )
        if request is None:
            return 0
        if request.print_config:
            print("\n".join(dump(config) for config in request.configs))
            return 0
        os.environ.setdefault("MPLBACKEND", "Agg")
        command = shlex.join(["python", "-m", "divaug.recipes.fragility", *runs, *arguments])
        return _report_runs(request, runs, command) if runs else _study(request, command)

    return run_main("fragility", argv, work)


def _flags(parser: Any) -> None:
    group = parser.add_argument_group("the study")
    group.add_argument("--evidence", action="append", default=[], metavar="CSV", help="rows of runs made elsewhere")
    text = "verdicts.csv of another data set, to be judged together with this one"
    group.add_argument("--beside", action="append", default=[], metavar="CSV", help=text)
    group.add_argument("--no-patches", action="store_true", help="leave out C2b's networks")
    add_jobs(group)
    text = "with RUN: draw this class's feature card (default: the largest and the smallest)"
    add_trust(group)
    group.add_argument("--class", dest="cards", action="append", default=[], metavar="NAME", help=text)


def _study(request: flags.Request, command: str) -> int:
    from divaug.base.files import make_folder
    from divaug.base.progress import Progress
    from divaug.runs.trackers.mlflow import Note
    from divaug.study.fragility.plan import CUTS, SHARES, arms, folder_of
    from divaug.study.fragility.report import about, log_study, write_study_report
    from divaug.study.fragility.study import collect
    from divaug.study.fragility.verdicts import read_verdicts

    methods = list(dict.fromkeys(config.method for config in request.configs))
    if own := [name for name in methods if name.endswith(".toml")]:
        raise ConfigError(f"{own[0]}: the study compares divaug's own methods, by name (--list methods)")
    shares = () if request.extra["no_patches"] else SHARES[-1:] if request.smoke else SHARES
    planned = arms(methods, CUTS, shares)
    first = request.configs[0]
    if first.extra_train is not None or any(config.extra_train for config in request.configs):
        raise ConfigError("--extra-train has no place in the study: its arms have equally many images of one cut")
    folder = folder_of(planned[0], first).path.parents[1]
    if request.dry_run:
        for arm in planned:
            print(f"{arm.name}  {folder_of(arm, first).path.parent}")
        return 0
    progress = Progress("none" if request.quiet else first.progress)
    known = [Path(path) for path in request.extra["evidence"]]
    if gone := [str(path) for path in known if not path.is_file()]:
        raise ConfigError(f"--evidence {gone[0]}: there is no such file")
    beside = [read_verdicts(Path(path)) for path in request.extra["beside"]]  # before anything is trained
    jobs = jobs_of(request.extra["jobs"], threads=first.threads, device=first.device)
    make_folder(folder)
    before = _judged(folder / "verdicts.csv")
    table = collect(planned, request.configs, folder / "evidence.csv", known, say=progress.say, jobs=jobs)
    verdicts, files = write_study_report(
        folder, table, methods, about=about(table, first, planned[0].name, methods), command=command, beside=beside,
        dataset=first.dataset,
    )  # fmt: skip
    _show(verdicts, files)
    if before not in (None, _judged(folder / "verdicts.csv")):
        Note(folder).renew()  # an MLflow run keeps what was logged first
    log_study(first, folder, verdicts, files)
    return 0


def _judged(file: Path) -> list[tuple[str, ...]] | None:
    """Return how many seeds each verdict is of, and the verdict; None without a file.

    The effects themselves differ in their last digits once evidence has been written and read.
    """
    if not file.exists():
        return None
    with file.open(encoding="utf-8", newline="") as rows:
        return [
            tuple(row[key] for key in ("claim", "measure", "method", "n", "verdict")) for row in csv.DictReader(rows)
        ]


def _report_runs(request: flags.Request, runs: list[str], command: str) -> int:
    from divaug.base.errors import DivaugError
    from divaug.report.latent import write_run_report
    from divaug.runs.folder import find_runs

    paths = [str(Path(p).parents[1]) if Path(p).name == "last.pt" else p for p in runs]
    folders = [folder for folder in find_runs(paths) if folder.finished]
    if not folders:
        raise DivaugError(f"no finished run at or below {', '.join(runs)}")
    if request.dry_run:
        print("\n".join(str(folder.path / "latent") for folder in folders))
        return 0
    cards, asked = tuple(request.extra["cards"]) or ("largest", "smallest"), request.configs[0]
    if asked.encoder is not None:
        from divaug.models.encoder import Encoder

        Encoder.load(asked.encoder)  # before anything is measured: it may not be an encoder
    left_out = 0
    for folder in folders:
        try:
            files = write_run_report(
                folder, command=command, cards=cards, encoder=asked.encoder, allow_overlap=asked.allow_overlap
            )
        except DataError as error:  # of a run with a planted patch, for example
            if len(folders) == 1:
                raise
            print(f"left out: {error}", file=sys.stderr)
            left_out += 1
            continue
        print(f"{folder.label}, seed {folder.config.seed}: " + "  ".join(os.path.relpath(f) for f in files))
    return DataError.exit_code if left_out else 0


def _show(verdicts: Any, files: list[Path]) -> None:
    for _, row in verdicts[verdicts["primary"]].iterrows():
        print(
            f"{row['claim']:<4} {row['verdict']:<14} {row['effect']:+.3g} [{row['low']:.3g}, {row['high']:.3g}]  "
            f"p {row['p_holm']:.3g}  n {row['n']}  {row['statement']}" + (f"  [{row['floor']}]" if row["floor"] else "")
        )
    print("report: " + "  ".join(os.path.relpath(file) for file in files[:2]))


if __name__ == "__main__":
    sys.exit(main())

"""What the training recipes share: train methods x seeds, then print the table and write the figures."""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, DivergedError
from divaug.base.progress import Progress
from divaug.config import flags
from divaug.config.jobs import Cluster, add_engine, add_jobs, engine_of, follows, processes, share
from divaug.config.schema import FAMILY_OF
from divaug.config.tables import dump
from divaug.runs.folder import RunFolder


def train_and_compare(
    program: str,
    description: str,
    argv: list[str],
    recipe: Mapping[str, Any],
    *,
    methods: Sequence[str],
    smoke: Mapping[str, Any],
    positional: tuple[str, str] | None = None,
    show_classes: bool = False,
) -> int:
    """Parse, train every run, print the comparison, write figures; see ``divaug.config.flags.parse``."""
    request = flags.parse(
        program, description, argv, recipe, methods=methods, smoke=smoke, positional=positional, own_flags=_flags
    )
    if request is None:
        return 0
    if request.print_config:
        print("\n".join(dump(config) for config in request.configs))
        return 0
    mine = share(request.extra["shard"])
    if not request.configs[mine]:
        raise ConfigError(f"--shard {request.extra['shard']} has no run: there are {len(request.configs)}")
    first = request.configs[0]
    jobs = engine_of(request.extra, len(request.configs[mine]), first.threads, first.device)
    folders = [RunFolder.of(config) for config in request.configs]
    if request.resume_from is not None:
        if request.extra["results"]:
            raise ConfigError(
                "--results has no effect with --resume RUN: a row says what was asked for, and the run's folder what "
                "that became; the command that began the run resumes it and writes its row"
            )
        folders = [RunFolder(request.resume_from)]
    if k := request.extra["tune"]:
        request, folders = _tuned(request, k)
    if request.dry_run:
        for config, folder in zip(request.configs[mine], folders[mine], strict=True):
            active = [getattr(config, slot) for slot in FAMILY_OF]
            begins = [*(phase.start for phase in config.phases), *(part.start for part in active if part.start)]
            starts = {min(round(at * config.epochs), config.epochs - 1) for at in begins}  # the last one at the latest
            starts |= {round(part.stop * config.epochs) for part in active} - {config.epochs}
            phases = f", phases from epoch {', '.join(map(str, sorted(starts)))} (from 0)" if starts else ""
            least = f" or more, for {config.min_steps:,} steps" if config.min_steps else ""
            print(f"{folder.label}  seed {config.seed}  {config.epochs} epochs{least}{phases}  {folder.path}")
        return 0
    try:
        _train(request, folders, mine, jobs)
    except DivergedError:
        _show(request, folders, show_classes)  # the others are done
        raise
    if not follows():
        _show(request, folders, show_classes)
    return 0


def _tuned(request: flags.Request, k: int) -> tuple[flags.Request, list[RunFolder]]:
    """Choose every method's options on validation images; return the runs with them."""
    if request.extra["shard"] is not None or request.resume_from is not None or processes() > 1:
        raise ConfigError("--tune trains lists of runs of its own; give it without --shard, --resume RUN and torchrun")
    from divaug.study.tune import trials_of, tune

    first = [config for config in request.configs if config.seed == request.configs[0].seed]
    if request.dry_run:
        trials = [trial.config for config in first for trial in trials_of(config, k)]
        return replace(request, configs=trials), [RunFolder.of(config) for config in trials]
    from divaug.report.tuning import TUNING
    from divaug.study.tune import keep

    os.environ.setdefault("MPLBACKEND", "Agg")
    jobs = engine_of(
        request.extra, k * len(first), first[0].threads, first[0].device
    )  # there are more trials than runs
    quiet = {"progress": "none"} if request.quiet else {}
    chosen, trials = tune([replace(config, **quiet) for config in request.configs], k, jobs)
    folders = [RunFolder.of(config) for config in chosen]
    file = folders[0].path.parents[1] / TUNING
    keep(file, trials)
    if request.extra["results"]:
        keep(Path(request.extra["results"]).with_suffix(f".{TUNING}"), trials)
    few = [f"{method} {n}" for method, n in trials["method"].value_counts(sort=False).items() if n < k]
    print(f"up to {k} configurations of every method on the same validation images: {os.path.relpath(file)}")
    if few:
        print(f"fewer different ones, for want of options to draw: {', '.join(few)}")
    print(trials[trials["chosen"]].drop(columns=["chosen", "k"]).to_string(index=False))
    return replace(request, configs=chosen), folders


def _flags(parser: Any) -> None:
    group = parser.add_argument_group("many runs")
    text = "CSV that gets one row per finished run; runs already in it are not trained again"
    group.add_argument("--results", metavar="CSV", help=text)
    text = (
        "give every method K configurations: its defaults and draws from its components' ranges; each is "
        "trained on the first seed, and validation images choose (--holdout, --val-frac, else a fifth)"
    )
    group.add_argument("--tune", type=_tries, default=0, metavar="K", help=text)
    add_jobs(group)
    add_engine(group)


def _tries(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"must be a whole number from 2 to 1000, got {text!r}")
    return int(text)


def _train(request: flags.Request, folders: list[RunFolder], mine: slice, jobs: int | Cluster) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from divaug.study.methods import train_methods

    quiet = request.quiet or follows()
    for method in () if quiet else request.left_out:
        print(f"{method} is left out: it changes images, and train head extracts features once", file=sys.stderr)
    configs = [replace(c, progress="none") if quiet else c for c in request.configs]
    rows = Path(request.extra["results"]) if request.extra["results"] else None
    train_methods(configs[mine], folders[mine], rows=rows, jobs=jobs)


def _show(request: flags.Request, folders: list[RunFolder], show_classes: bool) -> None:
    from divaug.report.class_table import class_table
    from divaug.report.compare import compare
    from divaug.runs.trackers.mlflow import Note
    from divaug.runs.trackers.store import page_of, server_command
    from divaug.runs.tracking import tracking_uri

    done = [folder for folder in folders if folder.finished]
    rows = Path(request.extra["results"]) if request.extra["results"] else None
    if rows is not None and (elsewhere := _only_rows(rows, [folder for folder in folders if folder not in done])):
        print(f"{elsewhere} of these runs are rows of {rows} without a folder here, and not in the table below: "
              f"python -m divaug compare {shlex.quote(str(rows))}")  # fmt: skip
    for comparison in compare([folder for folder in folders if folder.begun]) if done else []:
        report = next(iter(comparison.runs.values()))[0].path.parents[1] / "report"
        files = _write_report(report, comparison)
        print(f"\n{comparison.text}")
        if show_classes:
            for label, runs in comparison.runs.items():
                seeds = "seeds" if len(runs) > 1 else "seed"
                print(f"\n{label}, {len(runs)} {seeds}:\n{class_table(runs)}")
        if files:
            print("\nfiles: " + "  ".join(os.path.relpath(file) for file in files))
    uri = tracking_uri(request.configs[0], folders[0].output_dir)
    known = Note(folders[0].path).at(uri) if uri is not None else {}
    if uri is not None and known:  # nothing of a store that could not be reached
        print(f"compare the runs in MLflow:\n  {server_command(uri)}\n  {page_of(uri, known.get('experiment'))}")


def _only_rows(rows: Path, folders: Sequence[RunFolder]) -> int:
    """Return how many runs have a row and no finished folder."""
    from divaug.report import results

    table = results.read(rows)
    known = set(zip(table["method"], table["seed"], strict=True))
    return sum((folder.label, int(folder.path.name.removeprefix("seed"))) in known for folder in folders)


def _write_report(folder: Path, comparison: Any) -> list[Path]:
    """Write the report and mirror it; one that cannot be written costs a warning, not the results.

    Returns:
        The page and the figures.
    """
    from divaug.report.comparison_page import write_report
    from divaug.runs.tracking import mirror_report

    try:
        files = write_report(folder, comparison)
        if len(comparison.runs) > 1:  # one method is no comparison
            mirror_report(next(iter(comparison.runs.values()))[0], folder, files, Progress().warn)
        return [file for file in files if file.suffix in (".png", ".html")]
    except Exception as error:
        command = shlex.join(["python", "-m", "divaug.recipes.compare", os.path.relpath(folder.parent)])
        said = f"no report in {folder} ({type(error).__name__}: {error}); the results are complete: {command}"
        Progress().warn(said)
        return []

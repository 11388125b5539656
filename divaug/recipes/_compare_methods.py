"""What the training recipes share: train methods x seeds, then table, figures and where to look."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from divaug.config import flags
from divaug.config.schema import dump
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
    folders = [RunFolder.of(config) for config in request.configs]
    if request.resume_from is not None:
        folders = [RunFolder(request.resume_from)]
    if request.dry_run:
        for config, folder in zip(request.configs, folders, strict=True):
            fractions = [phase.start for phase in config.phases]
            fractions += [config.mix.options[end] for end in ("start", "stop") if end in config.mix.options]
            starts = sorted(round(fraction * config.epochs) for fraction in fractions)
            phases = (
                f", phases from {', '.join(str(s) if s < config.epochs else 'never' for s in starts)}" if starts else ""
            )
            print(f"{folder.label}  seed {config.seed}  {config.epochs} epochs{phases}  {folder.path}")
        return 0
    _train(request, folders)
    _show(request, folders, show_classes)
    return 0


def _flags(parser: Any) -> None:
    text = "CSV to which finished runs add a row; runs whose row is there are not trained again"
    parser.add_argument("--results", metavar="CSV", help=text)


def _train(request: flags.Request, folders: list[RunFolder]) -> None:
    os.environ.setdefault("MPLBACKEND", "Agg")
    from dataclasses import replace

    from divaug.base.progress import Progress
    from divaug.data.load import load_data
    from divaug.report import results
    from divaug.runs.loop import run

    rows = Path(request.extra["results"]) if request.extra["results"] else None

    def known(config: Any) -> bool:
        return rows is not None and results.known(rows, config)

    loaded: dict[str | None, Any] = {}  # methods and seeds differ in nothing else that concerns the data
    for config in request.configs:
        if not known(config) and config.extra_train not in loaded:  # before the first run: it may be refused
            loaded[config.extra_train] = load_data(config)
    for number, (config, folder) in enumerate(zip(request.configs, folders, strict=True), start=1):
        config = replace(config, progress="none") if request.quiet else config  # noqa: PLW2901
        progress = Progress(config.progress)
        if known(config):  # asked again: another process may have added the row since
            progress.say(f"[{number}/{len(folders)}] {folder.label}, seed {config.seed}: its row is in {rows}")
            continue
        progress.say(
            f"[{number}/{len(folders)}] {folder.experiment}: {folder.label}, seed {config.seed} "
            f"-> {os.path.relpath(folder.path)}"
        )
        run(config, folder, loaded[config.extra_train])
        if rows is not None:
            results.add(rows, config, folder)


def _show(request: flags.Request, folders: list[RunFolder], show_classes: bool) -> None:
    from divaug.report.compare import class_table, compare, write_report
    from divaug.runs.trackers.mlflow import server_command
    from divaug.runs.tracking import tracking_uri

    done = [folder for folder in folders if folder.finished]
    for comparison in compare(done) if done else []:
        print(f"\n{comparison.text}")
        if show_classes:
            for label, runs in comparison.runs.items():
                seeds = "seeds" if len(runs) > 1 else "seed"
                print(f"\n{label}, {len(runs)} {seeds}:\n{class_table(runs)}")
        first = next(iter(comparison.runs.values()))[0]
        files = write_report(first.path.parents[1] / "report", comparison)
        print("\nfigures: " + "  ".join(os.path.relpath(file) for file in files if file.suffix == ".png"))
    if (uri := tracking_uri(request.configs[0], folders[0].output_dir)) is not None:
        print(f"compare the runs in MLflow (http://127.0.0.1:5000):\n  {server_command(uri)}")

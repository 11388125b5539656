"""Test the claims of "Understanding CNN Fragility When Learning With Imbalanced Data" (arXiv 2210.09465).

    python -m divaug.recipes.fragility                       # digits, ten seeds: the study
    python -m divaug.recipes.fragility --config recipes/fragility/fashion_mnist.toml --seeds 0-7
    python -m divaug.recipes.fragility runs/cifar10-exp100-fast/erm    # finished runs: their latent report

Without RUN it trains, for every seed, long-tailed, balanced and balanced_small networks with the losses of erm, focal
and ldam_drw, the repeats that the nulls need, and networks with a patch planted in one class. It then judges the claims
C0, C1, C2, C2b and C4: effect, interval, null, and the verdict supported, contradicted or not decided. A study that was
stopped continues with the same command; runs whose rows are in --evidence are not trained again.

With RUN (run folders, folders that hold them, or a run's checkpoint) it writes all tables, figures and feature cards
of each run. The claims are about differences between networks and need the study.
"""

import math
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.config import flags

RECIPE = {"dataset": "digits", "profile": "exp"}
METHODS = ("erm", "focal", "ldam_drw")
SEEDS = "0-9"
SMOKE = {"dataset": "digits", "epochs": 2, "max_per_class": 30, "imbalance_factor": 5.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        runs = []
        while arguments and not arguments[0].startswith("-"):
            runs.append(arguments.pop(0))
        if not runs and not {"--seed", "--seeds", "--smoke", "--help", "-h"} & set(arguments):
            arguments = [*arguments, "--seeds", SEEDS]
        request = flags.parse(
            "divaug.recipes.fragility", __doc__ or "", arguments, RECIPE, methods=METHODS, smoke=SMOKE, own_flags=_flags
        )
        if request is None:
            return 0
        os.environ.setdefault("MPLBACKEND", "Agg")
        command = shlex.join(["python", "-m", "divaug.recipes.fragility", *runs, *arguments])
        return _report_runs(request, runs, command) if runs else _study(request, command)

    return flags.main("fragility", argv, work)


def _flags(parser: Any) -> None:
    group = parser.add_argument_group("the study")
    group.add_argument("--evidence", action="append", default=[], metavar="CSV", help="rows of runs made elsewhere")
    group.add_argument("--no-patches", action="store_true", help="leave out C2b's networks")
    flags.add_jobs(group)
    text = "with RUN: draw this class's feature card (default: the largest and the smallest)"
    group.add_argument("--class", dest="cards", action="append", default=[], metavar="NAME", help=text)


def _study(request: flags.Request, command: str) -> int:
    from divaug.base.files import make_folder
    from divaug.base.progress import Progress
    from divaug.study.fragility.plan import CUTS, SHARES, arms, folder_of
    from divaug.study.fragility.report import write_study_report
    from divaug.study.fragility.study import collect

    methods = list(dict.fromkeys(config.method for config in request.configs))
    shares = () if request.extra["no_patches"] else SHARES[-1:] if request.smoke else SHARES
    planned = arms(methods, CUTS, shares)
    first = request.configs[0]
    folder = make_folder(folder_of(planned[0], first).path.parents[1])
    if request.dry_run:
        for arm in planned:
            print(f"{arm.name}  {folder / arm.name}")
        return 0
    progress = Progress("none" if request.quiet else first.progress)
    known = [Path(path) for path in request.extra["evidence"]]
    jobs = flags.set_jobs(request.extra)
    table = collect(planned, request.configs, folder / "evidence.csv", known, say=progress.say, jobs=jobs)
    seeds = sorted(table["seed"].unique())
    rows = table[(table["cut"] == "exp") & (table["arm"] == planned[0].name)]
    one = rows[rows["seed"] == seeds[0]]
    balanced = table[table["cut"] == "balanced"]["n_train"].max()
    about = (
        f"{first.dataset}, {first.model.name} (D = {one['dimensions'].iloc[0]:.0f}), {first.epochs} epochs; "
        f"{len(seeds)} seeds, each with its own class order, cut and initial weights; long-tailed cut with "
        f"{one['n'].max():.0f} to {one['n'].min():.0f} training images per class (imbalance factor "
        f"{first.imbalance_factor:g}, {one['n_train'].iloc[0]:.0f} in all), balanced_small with as many in all, "
        f"balanced with {balanced:.0f}. Losses: {', '.join(methods)}."
    )
    verdicts, files = write_study_report(folder, table, methods, about=about, command=command)
    _show(verdicts, files)
    _log(request, folder, verdicts, files)
    return 0


def _report_runs(request: flags.Request, runs: list[str], command: str) -> int:
    from divaug.base.errors import DivaugError
    from divaug.data.load import load_data
    from divaug.latent.embeddings import Embeddings
    from divaug.models.encoder import Encoder
    from divaug.report.document import Document
    from divaug.report.latent import remarks, write_latent_report
    from divaug.runs.folder import find_runs
    from divaug.runs.model import load
    from divaug.train.build import load_encoder

    cards = tuple(request.extra["cards"]) or ("largest", "smallest")
    paths = [str(Path(p).parents[1]) if Path(p).name == "last.pt" else p for p in runs]
    folders = [folder for folder in find_runs(paths) if folder.finished]
    if not folders:
        raise DivaugError(f"no finished run at or below {', '.join(runs)}")
    asked = request.configs[0]
    encoder, space = None, Path(asked.encoder or "").name
    if asked.encoder is not None:
        Encoder.load(asked.encoder)  # before anything is measured: it may not be an encoder
    shown_diversity = ["class_name", "tercile", "n", "size", "measure", "value", "low", "high"]
    for folder in folders:
        config = folder.config
        data = load_data(config)
        if asked.encoder is not None:
            encoder = load_encoder(asked.encoder, data, allow_overlap=asked.allow_overlap)
        out = folder.path / "latent"
        tables, figures = write_latent_report(out, load(folder).network, data, k=config.top_k, cards=cards)
        document = Document(f"Latent features of {folder.experiment}, {folder.label}, seed {config.seed}")
        document.code(command)
        document.bullets(remarks(Embeddings.load(out / "embeddings" / "train"), tables))
        document.text("The claims are about differences between networks. To test them, run the recipe without RUN.")
        for path, caption in figures:
            document.figure(path, caption)
        shown = tables["rarefaction"]
        document.heading("Rarefied numbers")
        document.table(shown[shown["m"].notna()][
            ["class_name", "tercile", "split", "n", "K", "m", "value", "ceiling", "used", "saturated", "largest_common"]
        ])  # fmt: skip
        document.heading("Diversity of embeddings at equal size")
        document.table(tables["diversity"][shown_diversity])
        if encoder is not None:
            document.heading(f"In the space of {space} (top-K FE; there are no class weights)")
            document.table(_common_space(encoder, data, out, config.top_k)["diversity"][shown_diversity])
        files = document.write(out, "latent_report")
        print(f"{folder.label}, seed {config.seed}: " + "  ".join(os.path.relpath(f) for f in files))
    return 0


def _common_space(encoder: Any, data: Any, out: Path, k: int) -> dict[str, Any]:
    from divaug.base.files import write_text
    from divaug.latent.tables import all_tables
    from divaug.runs.embed import encode

    tables = all_tables(encode(encoder, data, "train"), encode(encoder, data, "test"), k)
    for name, table in tables.items():
        write_text(out / f"{name}_encoder.csv", table.to_csv(index=False, float_format="%.6g"))
    return tables


def _show(verdicts: Any, files: list[Path]) -> None:
    for _, row in verdicts[verdicts["primary"]].iterrows():
        print(
            f"{row['claim']:<4} {row['verdict']:<12} {row['effect']:+.3g} [{row['low']:.3g}, {row['high']:.3g}]  "
            f"p {row['p_holm']:.3g}  n {row['n']}  {row['statement']}"
            + (f"  [{row['caveat']}]" if row["caveat"] else "")
        )
    print("report: " + "  ".join(os.path.relpath(file) for file in files[:2]))


def _log(request: flags.Request, folder: Path, verdicts: Any, files: list[Path]) -> None:
    from divaug.runs.trackers.mlflow import MlflowTracker
    from divaug.runs.tracking import tracking_uri

    config = request.configs[0]
    uri = tracking_uri(config, Path(config.output_dir))
    if uri is None:
        return
    measured = {
        f"{row['claim']}/{row['method']}/" + re.sub(r"[^\w.-]+", "_", row["measure"]): float(row["effect"])
        for _, row in verdicts.iterrows()
    }
    with MlflowTracker(
        uri, output_dir=Path(config.output_dir), experiment="fragility", run_name=folder.name, folder=folder,
        params={"dataset": config.dataset, "epochs": config.epochs, "imbalance_factor": config.imbalance_factor},
        tags={str(row["claim"]): row["verdict"] for _, row in verdicts[verdicts["primary"]].iterrows()},
        say=lambda line: print(line, file=sys.stderr),
    ) as tracker:  # fmt: skip
        tracker.log_final({name: value for name, value in measured.items() if not math.isnan(value)})
        for file in files:
            tracker.artifact(file)


if __name__ == "__main__":
    sys.exit(main())

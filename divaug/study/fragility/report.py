"""The report of the fragility study: verdicts, what size-matching changes, figures, and how to read it."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.files import make_folder, write_text
from divaug.base.progress import Progress
from divaug.config.schema import Config
from divaug.figures import fragility as plots
from divaug.report.document import Document
from divaug.runs.trackers.mlflow import MlflowTracker
from divaug.runs.tracking import tracking_uri
from divaug.study.fragility.claims import LEARNED, RECOGNISED, Evidence, rows_of
from divaug.study.fragility.evidence import MASK_KS
from divaug.study.fragility.verdicts import MIN_SEEDS, changes, corrected_for, judge, null_interval

_ASKED = {
    "C0": "What decides about a rare class lies in its top-K classification embeddings (CE).",
    "C1": "A network learns a limited number of class top-K CE per class.",
    "C2": "Number and magnitude of the class top-K CE differ between balanced and imbalanced training, at equal n.",
    "C2b": "The class top-K CE are frequent features of the sample rather than intrinsic ones of the class.",
    "C4": "A train-test difference in the magnitude of top-K features goes along with lost recall.",
}
_NOTES = (
    """Rare and frequent are the smallest and the largest third of classes. Which classes are rare changes with
    every seed, so class identity and size are not confounded.""",
    """C2: the null is the same difference between two long-tailed networks of one cut whose seeds differ. The column
    reference of verdicts.csv is the balanced value that an effect is compared with.""",
    """C0 is nearly a matter of arithmetic, because these features carry the logit. The comparison with features as
    large in FE and the one between rare and frequent classes are more informative.""",
    """Losses of recall are shares of the class's own recall on unaltered test images. A control that gains recall has
    lost nothing.""",
    """C1: the bound is the smallest effective number of any class in the same network before training, its
    normalisation layers fitted to the training images; on average untrained networks do not stay below it.""",
    """C4: comparing recognised with missed test images would be circular (a missed image was selected for its low
    CE), so all members are compared. The correlation (Spearman's rho) is over the classes of one network. The recall
    that a class loses is nearly its loss of logit margin, so a measure says something of its own only beyond that:
    the primary row is the partial correlation given log class size and the loss of margin.""",
    """C2b: the patch's features are the three whose FE rise most when test images get the patch. Recall lost is on
    clean test images, against the network of the same seed without a patch.""",
    """Rows that are not primary are exploratory, and their p is not corrected.""",
)
_EFFECT = ("n", "effect", "low", "high", "null_low", "null_high")


def about(table: Any, config: Config, arm: str, methods: Sequence[str]) -> str:
    """Return in a paragraph what was trained.

    Args:
        table: Evidence.
        config: The configuration of any run.
        arm: The arm whose long-tailed cuts are described.
        methods: Methods.
    """
    seeds = sorted(table["seed"].unique())
    rows = table[(table["cut"] == "exp") & (table["arm"] == arm)]
    one = rows[rows["seed"] == seeds[0]]
    balanced = table[table["cut"] == "balanced"]["n_train"].max()
    return (
        f"{config.dataset}, {config.model.name} (D = {one['dimensions'].iloc[0]:.0f}), {config.epochs} epochs; "
        f"{len(seeds)} seeds, each with its own class order, cut and initial weights; long-tailed cut with "
        f"{one['n'].max():.0f} to {one['n'].min():.0f} training images per class (imbalance factor "
        f"{config.imbalance_factor:g}, {one['n_train'].iloc[0]:.0f} in all), balanced_small with as many in all, "
        f"balanced with {balanced:.0f}. Losses: {', '.join(methods)}."
    )


def write_study_report(
    folder: Path,
    table: Any,
    methods: Sequence[str],
    *,
    about: str,
    command: str,
    beside: Sequence[Any] = (),
    dataset: str = "",
) -> tuple[Any, list[Path]]:
    """Judge the claims and write verdicts, figures, Markdown and one HTML file; return the verdicts and the files.

    Args:
        folder: Output folder.
        table: Evidence.
        methods: Methods; claims are judged by the first.
        about: What was trained, in a paragraph.
        command: The command that made the report.
        beside: Verdict tables of other data sets that are judged together with this one.
        dataset: Name of the data set.
    """
    import pandas as pd

    make_folder(folder)
    verdicts = judge(table, methods, beside, dataset)
    document = Document("CNN fragility under imbalance: the claims, tested")
    document.text(about)
    document.code(command)
    primary = verdicts[verdicts["primary"]]
    document.heading("Verdicts")
    others = [one[one["primary"].astype(bool)] for one in beside]
    counted = len(corrected_for(verdicts)) + sum(len(corrected_for(one)) for one in beside)
    seeds = int(verdicts["n"].max())
    document.text(
        "One row per claim and primary measure: mean effect over seeds, 95 % interval (Student's t), and p of the "
        f"exact sign-flip permutation, corrected by Holm over the {counted} measurable primary rows"
        f"{' of all data sets' * bool(beside)}. Supported and contradicted need a corrected p below 0.05, an interval "
        f"without 0, a mean outside the seed null if there is one, and at least {MIN_SEEDS} seeds. Everything else is "
        "not decided."
    )
    shown = ["claim", "statement", "measure", *_EFFECT, "p_holm", "verdict"]
    document.table(primary[shown])
    document.text(
        f"With {seeds} seeds and {counted} tests the smallest possible corrected p is {2 / 2**seeds * counted:.2g}: "
        "supported means that nearly all seeds agree in sign, and no more."
    )
    if len(floors := primary[primary["floor"] != ""]):
        document.text(
            f"*Not measurable*: in some seed the classes that the row judges have a training recall below {LEARNED} "
            f"(not learned) or a test recall below {RECOGNISED} (hardly recognised). They have too little recall to "
            "lose, and features of learned classes would be compared with features of others."
        )
        document.bullets([f"{row['claim']}, {row['measure']}: {row['floor']}" for _, row in floors.iterrows()])
    if others:
        document.heading("All data sets")
        document.table(pd.concat([primary, *others])[["dataset", *shown]])
    document.heading("Where size-matching, scale and nulls change the answer")
    document.text("Pairs of rows that ask the same question, raw and matched, whose answers (by uncorrected p) differ:")
    changed = changes(verdicts)
    if changed:
        document.bullets(changed)
    else:
        document.text("None.")
    figures = _figures(folder, table, methods)
    for path, caption in figures:
        document.figure(path, caption)
    for claim, asked in _ASKED.items():
        rows = verdicts[verdicts["claim"] == claim]
        document.heading(f"{claim}. {asked}")
        if len(rows):
            judged = ["p", "p_holm", "verdict"]
            document.table(rows[["statement", "measure", "kind", "method", *_EFFECT, *judged]])
        else:
            document.text("No networks in this study address it.")
    document.heading("How to read this")
    document.bullets([" ".join(note.split()) for note in _notes(table)])
    write_text(folder / "verdicts.csv", verdicts.to_csv(index=False, float_format="%.5g"))
    return verdicts, [*document.write(folder, "report"), folder / "verdicts.csv", *(path for path, _ in figures)]


def _notes(table: Any) -> list[str]:
    notes: list[str] = [*_NOTES]
    if "nonnegative" in table and not table["nonnegative"].astype(str).eq("True").all():
        notes.append(
            "Some features are negative: a contribution > 0 may be a negative feature with a negative weight, and the "
            "bound of C1 by positive weights does not hold."
        )
    return notes


def _figures(folder: Path, table: Any, methods: Sequence[str]) -> list[tuple[Path, str]]:
    rows = [row for row in rows_of(table, methods) if row.method == methods[0] and np.isfinite(row.values).any()]
    if not rows:
        return []
    found = Evidence(table)
    labels = [f"{row.claim}  {row.measure}" for row in rows]
    nulls = [None if row.null is None else null_interval(row.null) for row in rows]
    figures = [
        (plots.effects(folder / "effects.png", labels, [row.values for row in rows], nulls),
         f"All effects, {methods[0]}: each on the scale of its own spread over seeds."),
    ]  # fmt: skip
    arm = f"{methods[0]}_exp"
    ks = [k for k in MASK_KS if f"lost_top_{k}" in table]
    if ks and found.has(arm):
        lost = {
            tercile: {
                kind: np.column_stack([found.per_seed(arm, f"share_lost_{kind}_{k}", [tercile]) for k in ks])
                for kind in ("top", "matched", "random")
            }
            for tercile in ("head", "mid", "tail")
        }
        caption = "C0: share of a class's test recall lost when features are masked (mean and sd over seeds)."
        figures.append((plots.masking(folder / "masking.png", ks, lost), caption))
    shares = sorted(table.loc[table["share"] > 0, "share"].unique())
    if shares:
        figures.append((_patch_figure(folder, found, methods[0], shares), "C2b: a patch planted in one class."))
    return figures


def _patch_figure(folder: Path, found: Evidence, method: str, shares: list[float]) -> Path:
    titles = {
        "patch_in_top": "patch features in the top-K", "patch_recall_clean": "recall, clean test images",
        "patch_draws_others": "other images drawn by the patch",
    }  # fmt: skip
    panels = {}
    for measure, title in titles.items():
        panels[title] = {}
        for which, tercile in (("rare", "tail"), ("frequent", "head")):
            arms = [f"{method}_exp", *(f"{method}_exp_patch-{which}-{round(100 * p)}" for p in shares)]
            values = np.column_stack([found.per_seed(arm, measure, [tercile]) for arm in arms])
            panels[title][which] = values[~np.isnan(values).any(1)]
    return plots.patches(folder / "patches.png", [0.0, *shares], panels)


def _key(measure: str) -> str:
    """Return a measure as part of a name that MLflow takes."""
    return re.sub(r"[^\w.-]+", "_", measure)


def log_study(config: Config, folder: Path, verdicts: Any, files: Sequence[Path]) -> None:
    """Log the effects, the primary verdicts and the files as one MLflow run, unless tracking is off."""
    uri = tracking_uri(config, Path(config.output_dir))
    if uri is None:
        return
    measured = {
        f"{row['claim']}/{row['method']}/{_key(row['measure'])}": float(row["effect"]) for _, row in verdicts.iterrows()
    }
    primary = verdicts[verdicts["primary"]]
    with MlflowTracker(
        uri, output_dir=Path(config.output_dir), experiment="fragility", run_name=folder.name, folder=folder,
        params={"dataset": config.dataset, "epochs": config.epochs, "imbalance_factor": config.imbalance_factor},
        tags={f"{row['claim']}/{_key(row['measure'])}": row["verdict"] for _, row in primary.iterrows()},
        description="Claims of CNN fragility under imbalance (arXiv 2210.09465): one run per study.",
        say=Progress().warn,
    ) as tracker:  # fmt: skip
        tracker.log_final({name: value for name, value in measured.items() if not math.isnan(value)})
        for file in files:
            tracker.artifact(file)

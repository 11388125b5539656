"""Run a preregistered study: a task for every cut that lacks a row, finished runs being known by their rows."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from divaug.base.files import make_folder
from divaug.study.exchange.block import run_block
from divaug.study.exchange.plan import Design, Plan
from divaug.study.exchange.rows import ATTEMPTS, FAILED, OK, REFUSED, of_plan, read_rows, wanted
from divaug.study.runner import Task, run_tasks


def rows_of(plan: Plan, dataset: str) -> Path:
    """Return the CSV with the rows of a data set: ``results/<dataset>/runs.csv`` beside the plan."""
    return plan.path.parent / "results" / dataset / "runs.csv"


def chosen_designs(plan: Plan, labels: Sequence[str]) -> list[Design]:
    """Return the designs with these labels, in the plan's order; all of them for no label."""
    return [design for design in plan.designs if not labels or design.label in labels]


def run_study(
    plan: Plan,
    folder: Path,
    *,
    labels: Sequence[str] = (),
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Train what is missing: all arms of a cut in one task, cut after cut, design after design.

    A run that fails is a row and stops nothing; it is repeated once, the next time that the study is run.

    Args:
        plan: The preregistration.
        folder: Where runs are kept; what was begun there is continued.
        labels: Only these designs.
        jobs: Cuts at once: with several, each in a process of one thread.
        say: Called with a line for every cut.

    Raises:
        Interrupted: A signal came; the same command continues.
        ConfigError, DataError: The plan has changed, or the images of a cut cannot be chosen.
    """
    tasks = []
    for design in chosen_designs(plan, labels):
        plan.check_can_run(design)
        rows = rows_of(plan, design.dataset)
        table = read_rows(rows)
        missing = {cut: [arm for arm in design.arms if wanted(table, plan, design, arm, cut)] for cut in design.cuts}
        for cut, arms in missing.items():
            if arms:
                do = partial(
                    run_block,
                    plan.path.resolve(),
                    plan.prereg,
                    design.label,
                    cut,
                    make_folder(folder).resolve(),
                    rows.resolve(),
                )
                tasks.append(Task(f"{design.label}, cut {cut}: {len(arms)} of {len(design.arms)} arms", do))
    run_tasks(tasks, jobs=jobs, say=say)


def progress_of(plan: Plan, labels: Sequence[str] = ()) -> Any:
    """Return a DataFrame: each design's runs planned, done, failed, repeated, refused and left, and its core-hours."""
    import pandas as pd

    out = []
    for design in chosen_designs(plan, labels):
        rows = of_plan(read_rows(rows_of(plan, design.dataset)), plan, design)
        done, planned = rows[rows["status"] == OK], len(design.cuts) * len(design.arms)
        failed = rows[rows["status"] == FAILED]
        again = failed.merge(done[["arm", "cut"]], on=["arm", "cut"]).drop_duplicates(["arm", "cut"])
        refused = int((rows["status"] == REFUSED).sum())
        hours = float(done["seconds"].sum()) / 3600
        lost = int((failed.groupby(["arm", "cut"]).size() >= ATTEMPTS).sum())
        left = planned - len(done) - refused - lost
        out.append({
            "design": design.label, "planned": planned, "done": len(done), "failed": len(failed),
            "repeated": len(again), "refused": refused, "left": left, "core_hours": hours,
            "hours_left": hours / max(1, len(done)) * left,
        })  # fmt: skip
    return pd.DataFrame(out)

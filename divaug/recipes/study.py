"""Is breadth worth as much as number? Run, follow and report the preregistered study of both.

    python -m divaug.recipes.study status recipes/study/breadth.toml
    python -m divaug.recipes.study run recipes/study/breadth.toml --jobs 2
    python -m divaug.recipes.study report recipes/study/breadth.toml
    python -m divaug.recipes.study power recipes/study/breadth.toml    # before the first run
    python -m divaug.recipes.study run --smoke                         # everything, on digits, in two minutes

FILE is a preregistration: arms, cuts, preset, and how effects become words. Its hash stands in every row of
results/<dataset>/runs.csv beside it; rows of another hash are not read. A study that was stopped continues with the
same command, and finished runs are known by their rows. report writes verdicts, tables and figures of what is there.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, suggestion
from divaug.config.command import Parser
from divaug.config.command import main as run_main
from divaug.config.jobs import add_jobs, jobs_of

WHAT = ("run", "status", "report", "power")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        parser = Parser("divaug.recipes.study", __doc__)
        parser.add_argument("what", choices=WHAT, help="run: train what is missing; status: count; report: judge")
        parser.add_argument("files", nargs="*", metavar="FILE", help="preregistrations (TOML)")
        parser.add_argument("--design", action="append", default=[], metavar="LABEL", help="only this design")
        parser.add_argument("--output-dir", default="runs/study", metavar="DIR", help="where runs are kept")
        parser.add_argument("--smoke", action="store_true", help="run and report a tiny study of digits, without FILE")
        parser.add_argument("--quiet", action="store_true", help="print results only")
        add_jobs(parser)
        parser.add_argument("-v", action="store_true", help="show where an error comes from")
        chosen = parser.read(arguments, intermixed=True)
        if chosen.smoke == bool(chosen.files):
            raise ConfigError("name a preregistration, or give --smoke without one")
        command = shlex.join(["python", "-m", "divaug.recipes.study", *arguments])
        return _work(chosen, command)

    return run_main("study", argv, work)


def _work(chosen: Any, command: str) -> int:
    from divaug.base.progress import Progress
    from divaug.study.exchange.plan import read_plan
    from divaug.study.exchange.study import run_study

    progress, folder = Progress("none" if chosen.quiet else "auto"), Path(chosen.output_dir)
    jobs = jobs_of(chosen.jobs)
    if chosen.smoke:
        from divaug.study.exchange.smoke import smoke_plan

        chosen.files = [smoke_plan(folder / "smoke")]
    plans = [read_plan(file) for file in chosen.files]
    known = [design.label for plan in plans for design in plan.designs]
    for label in chosen.design:
        if label not in known:
            raise ConfigError(f"no design {label!r}; {suggestion(label, known)}")
    if chosen.design and chosen.what in ("report", "power"):
        raise ConfigError(f"--design has no effect on {chosen.what}; drop it")
    if chosen.what == "run":
        for plan in plans:
            run_study(plan, folder, labels=chosen.design, jobs=jobs, say=progress.say)
    if chosen.what == "power":
        return _power(plans)
    _status(plans, chosen.design)
    if chosen.what == "report" or chosen.smoke:
        from divaug.study.exchange.report import write_report

        verdicts, files = write_report(plans, command=command)
        for _, row in verdicts.iterrows():
            span = f"{row['effect']:.2f} [{row['lo']:.2f}, {row['hi']:.2f}]"
            known = "" if row["effect"] != row["effect"] else f"  phi {span}"  # NaN while it is unfinished
            print(f"{row['dataset']} {row['design']}: {row['verdict']}{known}  n {row['n']}")
        print("report: " + "  ".join(str(file) for file in files[:2]))
    return 0


def _status(plans: Sequence[Any], labels: Sequence[str]) -> None:
    from divaug.study.exchange.study import progress_of

    for plan in plans:
        print(f"{plan.path} (preregistration {plan.prereg})")
        table = progress_of(plan, labels)
        hours: Any = {name: (lambda value: f"{value:.1f}") for name in ("core_hours", "hours_left")}
        print(table.to_string(index=False, formatters=hours))


def _power(plans: Sequence[Any]) -> int:
    from divaug.base.files import write_text
    from divaug.study.exchange.power import power_table

    for plan in plans:
        if not plan.power:
            raise ConfigError(f"{plan.path} has no [[power]]")
        table = power_table(plan.power, (16, 24, 32, 40), plan.words)
        path = plan.path.with_name(f"{plan.path.stem}_power.csv")
        write_text(path, table.to_csv(index=False, float_format="%.4g"))
        print(table.round(2).to_string(index=False))
        print(f"table: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

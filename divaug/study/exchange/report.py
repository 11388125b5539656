"""The report of the study: the answer, its verdicts, and everything that could speak against it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import ConfigError, DataError
from divaug.base.files import make_folder, write_text
from divaug.figures import exchange as plots
from divaug.report.document import Document
from divaug.study.exchange.analysis import FACTORIAL, units
from divaug.study.exchange.contrasts import COLUMNS, OUTCOME, contrasts_of, name_of, results_of, unit_of
from divaug.study.exchange.crossed import crossed_interval, recognised
from divaug.study.exchange.plan import Arm, Design, Plan
from divaug.study.exchange.predict import prediction_table
from divaug.study.exchange.rows import OK, of_plan, read_rows
from divaug.study.exchange.sentences import LIMITS, OBJECTIONS, PRIORS, answer
from divaug.study.exchange.spaces import Source
from divaug.study.exchange.study import progress_of, rows_of

_BALANCE = (
    "vendi_u",
    "vendi_outside",
    "coverage",
    "radius",
    "margin",
    "shift",
    "mass",
    "smd_max",
    "train_recall",
    "tau",
)
_SIDES = tuple(f"{effect}, {side} kinds" for side in ("kept", "withheld") for effect in ("B - A", "D - C", "D - A"))
_TRANSFER = "transfer to kept kinds"
_CHECK = ("topk_ce_heldout", "topk_fe_heldout", "vendi_outside", "vendi_u", "coverage")


def write_report(plans: Sequence[Plan], *, command: str) -> tuple[Any, list[Path]]:
    """Judge all designs; write contrasts beside the rows, and a report with figures in a folder named after the plan.

    Args:
        plans: Preregistrations in one folder; the words of the first are explained.
        command: The command that made the report.

    Returns:
        The primary rows, and the files written.

    Raises:
        ConfigError: The plans are in several folders.
    """
    import pandas as pd

    if len({plan.path.resolve().parent for plan in plans}) > 1:
        raise ConfigError("the preregistrations of one report must be in one folder: their rows are beside them")
    designs = [(design.dataset, name_of(design)) for plan in plans for design in plan.designs]
    if twice := [f"{dataset}/{name}" for dataset, name in designs if designs.count((dataset, name)) > 1]:
        raise ConfigError(f"two preregistrations have a design {twice[0]}; report them one at a time")
    folder = make_folder(plans[0].path.with_suffix(""))
    judged = []
    for plan in plans:
        for design in plan.designs:
            table = read_rows(rows_of(plan, design.dataset))
            judged.append((plan, design, table, contrasts_of(plan, design, table)))
    files = [_write_contrasts(plans[0], dataset, judged) for dataset in _datasets(plans)]
    verdicts = [
        found[found["contrast"] == "phi"]
        for plan, design, _, found in judged
        if design.label in plan.words.primary and len(found)
    ]
    primary = pd.concat(verdicts, ignore_index=True) if verdicts else pd.DataFrame(columns=list(COLUMNS))
    document = _document(plans, judged, primary, folder, command)
    return primary, [*document.write(folder, "report"), *files]


def _datasets(plans: Sequence[Plan]) -> list[str]:
    return list(dict.fromkeys(design.dataset for plan in plans for design in plan.designs))


def _write_contrasts(plan: Plan, dataset: str, judged: Sequence[Any]) -> Path:
    """Write a data set's contrasts; those of designs that are not judged here stay, another plan's among them."""
    import pandas as pd

    path = make_folder(plan.path.parent / "results" / dataset) / "contrasts.csv"
    tables = [found for _, design, _, found in judged if design.dataset == dataset and len(found)]
    own = {(found["plan"].iloc[0], found["design"].iloc[0]) for found in tables}
    if path.exists():
        before: Any = pd.read_csv(path, keep_default_na=False, na_values={"p": ["", "nan"]})
        if "plan" not in before:
            raise DataError(f"{path} has no column 'plan': an older version wrote it; remove it: it is made anew")
        pairs = zip(before["plan"], before["design"], strict=True)
        tables = [before.loc[[pair not in own for pair in pairs]], *tables]
    every = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
    numbers = ["effect", "lo", "hi", "p"]
    every[numbers] = every[numbers].astype(float)  # a column of objects would be written in full precision
    write_text(path, every.to_csv(index=False, float_format="%.4g"))
    return path


def _document(plans: Sequence[Plan], judged: Sequence[Any], primary: Any, folder: Path, command: str) -> Document:
    words = plans[0].words
    document = Document(plans[0].title)
    if words.primary:
        document.text(answer(judged))
    document.code(command)
    shown = [one for one in judged if one[3].loc[one[3]["contrast"] == "phi", "effect"].notna().any()]
    if shown:
        document.figure(plots.phi(folder / "phi.png", _phi_rows(shown), words), _PHI)
        _explain(document, shown[0][1], folder)
    if words.primary:
        _verdicts(document, words, primary)
    for plan, design, table, found in shown:
        if design.label in plan.words.primary:
            _primary(document, plan, design, table, found)
    others = [found for plan, design, _, found in shown if design.label not in plan.words.primary]
    if others:
        document.heading("φ in other designs")
        rows = _joined([found[found["contrast"].str.startswith("phi")] for found in others])
        document.table(rows[["dataset", "design", "contrast", "effect", "lo", "hi", "n", "verdict"]])
    _named(document, judged)
    _figures(document, shown, folder)
    document.heading("Runs")
    document.text("Planned, done, failed, repeated after a failure, refused before training; core-hours of training.")
    for plan in plans:
        document.table(progress_of(plan).drop(columns="hours_left"))
    document.bullets([f"{_other_rows(plan)}; {_devices(plan)}" for plan in plans])
    for plan in plans:
        _power(document, plan)
    if shown:
        for title, items in (("Objections, and what answers them", OBJECTIONS), ("Limits", LIMITS), ("Priors", PRIORS)):
            document.heading(title)
            document.bullets([" ".join(item.split()) for item in items])
    return document


def _joined(tables: Sequence[Any]) -> Any:
    """Return tables one below the other."""
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


def _explain(document: Document, design: Design, folder: Path) -> None:
    heads = f"half of the classes are rare, the others have {design.heads} images of all kinds"
    document.heading("The design")
    document.text(
        _DESIGN.format(
            n=design.n, double=2 * design.n, kinds=design.kinds, half=design.kinds // 2,
            who=heads if design.heads else "all classes are rare alike",
        )
    )  # fmt: skip
    document.figure(plots.design(folder / "design.png", design.n, design.kinds), "The four arms.")


def _verdicts(document: Document, words: Any, primary: Any) -> None:
    document.heading("Verdicts")
    document.text(
        f"φ with Fieller's interval at {100 * words.confidence:.3g} % ({words.level:g} divided by "
        f"{len(words.primary)} primary rows). The words were fixed before the first run and are read in this order: "
        f"not measurable (lower bound of D - A below {words.floor:g} point, or an arm's mean training recall below "
        f"{words.gate:g}), negligible (inside ±{words.negligible:g}), harmful (upper bound below 0), more than number "
        f"(lower bound above {words.half:g}), comparable with number (inside {words.low:.2f} to {words.high:.2f}), at "
        f"least comparable (lower bound above {words.low:.2f}), matters but less than number (inside 0 to "
        f"{words.half:g}), not decided. The side of one half stands beside the word, since a word may turn as an "
        "interval narrows. p is of the sign-flip test that breadth has no effect (exact up to 16 units)."
    )
    if len(primary):
        document.table(primary[["dataset", "design", "effect", "lo", "hi", "p", "n", "verdict"]])


def _named(document: Document, judged: Sequence[Any]) -> None:
    """Show the contrasts that plans name."""
    rows = []
    for _, design, _, found in judged:
        names = [contrast.name for contrast in design.contrasts]
        if len(found):
            rows.append(found[found["contrast"].isin(names)])
    if rows and len(named := _joined(rows)):
        document.heading("Named contrasts")
        document.text("Points, or the unit that the name says; 95 % intervals (t, and Fieller's for ratios).")
        document.table(named[list(COLUMNS)])


def _primary(document: Document, plan: Plan, design: Design, table: Any, found: Any) -> None:
    document.heading(_titled(design))
    by_name = found.set_index("contrast")
    document.text(
        "Effects in points of prior-corrected recall of the rare classes, with 95 % intervals; then φ of other "
        f"outcomes at {100 * plan.words.confidence:.3g} %."
    )
    simple = ["breadth", "number", "D - A", "B - A", "D - C", "C - A", "D - B"]
    document.table(_rows(by_name, simple))
    if crossed := _crossed(plan, design):
        document.text(crossed)
    rest = [name for name in by_name.index if name.startswith("phi,")]
    document.table(by_name.loc[rest, ["effect", "lo", "hi", "p", "n", "verdict"]].reset_index())
    document.text(
        "Kinds kept by the narrow arms, and kinds that these never see (test images by the nearest centre of their "
        "class). B - A and D - C on kept kinds also halve the images of each kept kind. D - A keeps that depth and "
        "asks whether other kinds help kept ones, but D also raises the class's share of the rows. Transfer is "
        "(D - A) / (C - A) on kept kinds: what images of other kinds are worth to them, in images "
        "of their own (95 %, Fieller)."
    )
    document.table(_rows(by_name, [*_SIDES, _TRANSFER]))
    document.text(
        "Was latent diversity moved? Rarefied top-K CE and FE of held-out images in the trained networks, and measures "
        "of the chosen images before training: effect of breadth and, for comparison, of number."
    )
    document.table(_rows(by_name, [f"{effect}, {name}" for name in _CHECK for effect in ("breadth", "number")]))
    document.text("What the arms' images are like (means over cuts): balance, training recall, and the tau chosen.")
    rows = results_of(plan, design, table)
    document.table(rows.groupby("arm")[list(_BALANCE)].mean().reset_index())
    steps = ", ".join(f"{arm} {steps:.0f}" for arm, steps in rows.groupby("arm")["steps"].mean().items())
    document.text(
        f"Steps of training by arm: {steps}. Does a measure predict accuracy beyond the number of images? R² of each "
        "arm predicted from the other arms, outcome and measures centred within cuts. The last two measures are of "
        "trained networks, the others of the chosen images before training. Breadth is the label of the arm: a measure "
        "that does no better carries no more than which arm it is."
    )
    document.table(prediction_table(rows, OUTCOME[design.name]))


def _crossed(plan: Plan, design: Design) -> str:
    """Say the interval over cuts and test images, or why it is not there; empty for designs that have none."""
    import pandas as pd

    correct = rows_of(plan, design.dataset).with_name("correct.csv")
    if not correct.exists() or design.name != "longtailed":
        return ""
    how = "Over cuts and test images at once"
    config = plan.config(design, Arm(), counts=(1,), epochs=1, seed=0)
    try:
        source = Source(replace(config, download=False))
    except DataError:  # the rest of a report can be made anywhere, from the rows alone
        return f"{how}: not computed, since the labels of {design.dataset} are not at hand (DIVAUG_DATA)."
    labels = source.held_out(design.outcome).labels
    table = pd.read_csv(correct, dtype={"prereg": str})
    found = recognised(design, plan.prereg, table, labels, source.dataset.num_classes)
    if len(found) < 2:
        return ""
    low, high = crossed_interval(found, labels, plan.words.confidence, rng=np.random.default_rng(0))
    return (
        f"{how} (percentile bootstrap, {100 * plan.words.confidence:.3g} %): φ from {low:.2f} to {high:.2f}. The "
        "deciding interval is over cuts alone, for this test set."
    )


def _rows(by_name: Any, names: Sequence[str]) -> Any:
    known = [name for name in names if name in by_name.index]
    return by_name.loc[known, ["effect", "lo", "hi", "p", "n"]].reset_index()


def _phi_rows(shown: Sequence[Any]) -> list[dict[str, Any]]:
    rows = []
    for plan, design, _, found in shown:
        one = found[found["contrast"] == "phi"].iloc[0]
        verdict = str(one["verdict"]).split(";", maxsplit=1)[0].split(":", maxsplit=1)[0]
        kinds, number = (found[found["contrast"] == name].iloc[0]["effect"] for name in ("breadth", "number"))
        costs = f"\nhalving kinds: -{kinds:.1f} points, number: -{number:.1f}".replace("--", "+")
        rows.append({
            "label": _titled(design), "effect": one["effect"], "lo": one["lo"], "hi": one["hi"],
            "said": verdict + costs, "primary": design.label in plan.words.primary,
        })  # fmt: skip
    return sorted(rows, key=lambda row: not row["primary"])


def _titled(design: Design) -> str:
    """Return a design's name for people: "CIFAR-10, long-tailed, twice"."""
    names = {"cifar10": "CIFAR-10", "fashion_mnist": "Fashion-MNIST", "longtailed": "long-tailed", "main": ""}
    shown = [names.get(name, name) for name in (design.dataset, design.name, design.variant)]
    return ", ".join(name for name in shown if name)


def _figures(document: Document, shown: Sequence[Any], folder: Path) -> None:
    panels, sides, n = {}, {}, 0
    for plan, design, table, found in shown:
        if design.label not in plan.words.primary:
            continue
        rows, n = results_of(plan, design, table), design.n
        panels[_titled(design)] = units(rows, OUTCOME[design.name], FACTORIAL, paired=unit_of(design) == 2)
        by_name = found.set_index("contrast")
        sides[_titled(design)] = {
            name: tuple(float(by_name.loc[name, key]) for key in ("effect", "lo", "hi"))
            for name in _SIDES
            if name in by_name.index
        }
    if panels:
        document.heading("Number and breadth")
        document.figure(plots.factorial(folder / "factorial.png", panels, n), _FACTORIAL)
        document.figure(plots.sides(folder / "sides.png", sides), _SIDES_CAPTION)


def _other_rows(plan: Plan) -> str:
    out = []
    for dataset in dict.fromkeys(design.dataset for design in plan.designs):
        table = read_rows(rows_of(plan, dataset))
        out.append(f"{int((table['prereg'] != plan.prereg).sum())} of {len(table)} rows of {dataset}")
    return (
        f"preregistration {plan.prereg} ({plan.path.name}): {', '.join(out)} are of other preregistrations and not read"
    )


def _devices(plan: Plan) -> str:
    """Say where runs were trained."""
    rows = _joined([of_plan(read_rows(rows_of(plan, design.dataset)), plan, design) for design in plan.designs])
    counts = rows.loc[rows["status"] == OK, "device"].replace("", "a device not recorded").value_counts()
    return "trained on " + (", ".join(f"{name} {runs} runs" for name, runs in counts.items()) or "no device yet")


def _power(document: Document, plan: Plan) -> None:
    path = plan.path.with_name(f"{plan.path.stem}_power.csv")
    if not path.exists():
        return
    import pandas as pd

    document.heading("Power")
    document.text(
        "Simulated before the first run with the code that judges the rows: how often each word is said, by the true φ "
        f"and the number of cuts. `{path.name}` is the whole table; here are the cuts that were run."
    )
    table: Any = pd.read_csv(path, keep_default_na=False)  # a case may be called null
    run = [len(design.cuts) for design in plan.designs if design.label in plan.words.primary]
    document.table(table[table["cuts"].isin(run)])


_PHI = "φ in every design: diamonds are primary, dots are not. Intervals at the level of the plan."
_FACTORIAL = "Mean over pairs of cuts, and the 95 % interval of its difference from the mean of the four arms."
_SIDES_CAPTION = "Effects on test images of kinds that the narrow arms keep, and of kinds that they never see; 95 %."
_DESIGN = """In each cut {who}. Kinds are {kinds} clusters of a class's images in a space made without labels. A rare
class has {n} or {double} images, drawn from all {kinds} kinds or from {half} of them, chosen at random among the halves
that hold 45 to 55 % of its images. All arms train for the same number of steps, up to whole epochs.
φ = ½[(B - A) + (D - C)] / (D - A): of what it costs to halve images *and* kinds, the share that is due to the kinds. It
is 0 if only the number of images counts, 1 if only their kinds do, and ½ if both count alike."""

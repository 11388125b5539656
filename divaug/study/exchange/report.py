"""The report of the study: the answer, its verdicts, and everything that could speak against it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from divaug.base.files import make_folder, write_text
from divaug.figures import exchange as plots
from divaug.report.document import Document
from divaug.study.exchange.analysis import FACTORIAL, units
from divaug.study.exchange.contrasts import COLUMNS, OUTCOME, contrasts_of, results_of, unit_of
from divaug.study.exchange.plan import Design, Plan
from divaug.study.exchange.predict import prediction_table
from divaug.study.exchange.rows import read_rows
from divaug.study.exchange.sentences import LIMITS, OBJECTIONS, PRIORS, answer
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
_CHECK = ("topk_ce_heldout", "topk_fe_heldout", "vendi_outside", "vendi_u", "coverage")


def write_report(plans: Sequence[Plan], *, command: str) -> tuple[Any, list[Path]]:
    """Judge all designs and write contrasts, figures, Markdown and one HTML page beside the first plan.

    Args:
        plans: Preregistrations; their rows are read, and those of others left out and counted.
        command: The command that made the report.

    Returns:
        The primary rows, and the files written.
    """
    import pandas as pd

    folder = make_folder(plans[0].path.parent)
    judged = []
    for plan in plans:
        for design in plan.designs:
            table = read_rows(rows_of(plan, design.dataset))
            judged.append((plan, design, table, contrasts_of(plan, design, table)))
    files = []
    for dataset in dict.fromkeys(design.dataset for _, design, _, _ in judged):
        own = [found for _, design, _, found in judged if design.dataset == dataset and len(found)]
        every = pd.concat(own, ignore_index=True) if own else pd.DataFrame(columns=list(COLUMNS))
        path = make_folder(folder / "results" / dataset) / "contrasts.csv"
        write_text(path, every.to_csv(index=False, float_format="%.4g"))
        files.append(path)
    verdicts = [
        found[found["contrast"] == "phi"]
        for plan, design, _, found in judged
        if design.label in plan.words.primary and len(found)
    ]
    primary = pd.concat(verdicts, ignore_index=True) if verdicts else pd.DataFrame(columns=list(COLUMNS))
    document = _document(plans, judged, primary, folder, command)
    return primary, [*document.write(folder, "report"), *files]


def _document(plans: Sequence[Plan], judged: Sequence[Any], primary: Any, folder: Path, command: str) -> Document:
    document = Document("Is diversity worth as much as data?")
    document.text(answer(judged, plans[0].words))
    document.code(command)
    first = plans[0].designs[0]
    shown = [one for one in judged if len(one[3])]
    if shown:
        document.figure(plots.phi(folder / "phi.png", _phi_rows(shown), plans[0].words), _PHI)
    document.heading("The design")
    document.text(
        _DESIGN.format(n=first.n, double=2 * first.n, kinds=first.kinds, half=first.kinds // 2, heads=first.heads)
    )
    document.figure(plots.design(folder / "design.png", first.n, first.kinds), "The four arms.")
    document.heading("Verdicts")
    words, confidence = plans[0].words, plans[0].words.confidence
    document.text(
        f"φ with Fieller's interval at {100 * confidence:.1f} % (0.05 divided by {max(1, len(words.primary))} primary "
        "rows), over pairs of cuts that manipulate complementary halves of the classes. The words were fixed before "
        "the first run and are read in this order: not measurable (lower bound of D - A below "
        f"{words.floor:g} point, or an arm's mean training recall below {words.gate:g}), negligible (inside "
        f"±{words.negligible:g}), harmful (upper bound below 0), more than number (lower bound above {words.half:g}), "
        "comparable with number (inside 1/3 to 2/3), at least comparable (lower bound above 1/3), matters but less "
        "than number (inside 0 to ½), not decided. p is of the exact sign-flip test that breadth has no effect. The "
        "side of one half stands beside the word: a word may change as an interval narrows, the side cannot."
    )
    if len(primary):
        document.table(primary[["dataset", "design", "effect", "lo", "hi", "p", "n", "verdict"]])
    for plan, design, table, found in judged:
        if design.label in plan.words.primary and len(found):
            _primary(document, plan, design, table, found)
    others = [one for one in shown if one[1].label not in one[0].words.primary]
    if others:
        document.heading("Sensitivity: φ in the other designs")
        import pandas as pd

        rows = pd.concat([found[found["contrast"].isin(["phi", "phi, side of one half"])] for *_, found in others])
        document.table(rows[["dataset", "design", "contrast", "effect", "lo", "hi", "n", "verdict"]])
    _figures(document, shown, folder)
    document.heading("Runs")
    document.text(
        "Planned, done, failed, repeated after a failure, refused before training, and core-hours of training."
    )
    for plan in plans:
        document.table(
            progress_of(plan)[["design", "planned", "done", "failed", "repeated", "refused", "left", "core_hours"]]
        )
    document.bullets([_other_rows(plan) for plan in plans])
    for plan in plans:
        _power(document, plan)
    for title, items in (("Objections, and what answers them", OBJECTIONS), ("Limits", LIMITS), ("Priors", PRIORS)):
        document.heading(title)
        document.bullets([" ".join(item.split()) for item in items])
    return document


def _primary(document: Document, plan: Plan, design: Design, table: Any, found: Any) -> None:
    document.heading(f"{design.dataset}, {design.name}")
    simple = ["breadth", "number", "D - A", "B - A", "D - C", "C - A", "D - B", "phi, all classes", "phi, AUC"]
    by_name = found.set_index("contrast")
    document.text("Effects in points of prior-corrected recall of the rare classes; φ of other outcomes beside them.")
    document.table(_rows(by_name, simple))
    document.text(
        "Kinds kept by the narrow arms, and kinds that these never see (test images by the nearest centre of their "
        "class). B - A and D - C on kept kinds also halve the images of each kept kind; D - A keeps that depth, so it "
        "alone asks whether other kinds help kept ones."
    )
    document.table(_rows(by_name, _SIDES))
    document.text(
        "Was latent diversity moved? Rarefied top-K CE and FE of held-out images in the trained networks, and measures "
        "of the chosen images before training: effect of breadth and, for comparison, of number."
    )
    document.table(_rows(by_name, [f"{effect}, {name}" for name in _CHECK for effect in ("breadth", "number")]))
    document.text("What the arms' images are like (means over cuts): balance, training recall, and the tau chosen.")
    rows = results_of(plan, design, table)
    document.table(rows.groupby("arm")[list(_BALANCE)].mean().reset_index())
    document.text(
        "Does a measure predict accuracy beyond the number of images? R² of each arm predicted from the other arms, "
        "within cuts. The last two are of trained networks, the others of the chosen images before training."
    )
    document.table(prediction_table(rows, OUTCOME[design.name]))


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
    return ", ".join(
        names.get(name, name) for name in (design.dataset, design.name, design.variant) if names.get(name, name)
    )


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
    table: Any = pd.read_csv(path)
    run = [len(design.cuts) for design in plan.designs if design.label in plan.words.primary]
    document.table(table[table["cuts"].isin(run)])


_PHI = "φ in every design: diamonds are primary (preregistered, corrected), dots are not."
_FACTORIAL = "Mean over pairs of cuts, and the 95 % interval of its difference from the mean of the four arms."
_SIDES_CAPTION = (
    "Effects on test images of kinds that the narrow arms keep and of kinds that they never see; 95 % intervals."
)
_DESIGN = """In each cut half of the classes are rare, the others have {heads} images of all kinds. Kinds are {kinds}
clusters of the class's images in a space made without labels. A rare class has {n} or {double} images, drawn from all
{kinds} kinds or from {half} of them that hold half of its images. All arms train for the same number of steps. φ =
½[(B - A) + (D - C)] / (D - A): of what it costs to halve images *and* kinds, the share that is due to the kinds. It is
0 if only the number of images counts, 1 if only their kinds do, and ½ if both count alike."""

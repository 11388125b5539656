"""Method cards: what a method is, how to use it, and its results in a study; made from the code and a CSV."""

from pathlib import Path
from typing import Any

from divaug.config import layers
from divaug.config.registry import HEADS, PARTNERS, POSTHOC, REGISTRIES
from divaug.config.schema import FAMILY_OF
from divaug.report import results
from divaug.report.document import Document

_INTRODUCTION = (
    "Mean ± sd over seeds, at the last epoch. *prior-corr.* fits its one number on the other half of the test images: "
    "it compares methods, and is no accuracy to expect in use. Recalls are in %: balanced, prior-corrected, of head, "
    "mid and tail classes, and of the worst class. *bal - erm*: difference from plain training with the same seed. A "
    "card names the flag by which any recipe takes the method; what these rows are of stands with them. *top-K CE*: "
    "distinct top-K classification embeddings of a tail class's clean training images, in the run's own space, "
    "rarefied to m images. *top-K FE, common*: distinct top-K features of a tail class's views in the last epoch, in "
    "the space of the named encoder, rarefied to m views; a mixed view counts for its larger label. The same images "
    "have other numbers in the space of another encoder."
)


def write_cards(table: Any, file: Path, command: str) -> tuple[Path, Path]:
    """Write a Markdown and an HTML file: one table of all methods per experiment, then one card per method.

    Args:
        table: Rows of ``results.read``.
        file: The Markdown file; the other one lies beside it.
        command: The command line that writes the cards; it is printed in them.

    Returns:
        Both files.
    """
    summary = results.summary(table)
    document = Document("Method cards")
    document.text(_INTRODUCTION)
    document.text("Made from the code and the results by:")
    document.code(command)
    for (experiment, epochs), rows in summary.groupby(["experiment", "epochs"], sort=False):
        document.heading(f"{experiment}, {epochs} epochs")
        document.table(rows.drop(columns=["experiment", "epochs"]))
    known = layers.names("methods")
    for method in sorted(set(summary["method"])):
        document.heading(method)
        if "+posthoc=" in method:
            trained, _, name = method.partition("+posthoc=")
            name, *options = name.split("+")
            document.text(f"A new head for the finished runs of {trained}.")
            if name in POSTHOC.entries():
                document.bullets([about("posthoc", name)])
            flags = "".join(f" --{option.replace('=', ' ')}" for option in options)
            document.code(f"python -m divaug.recipes.posthoc RUN --method {name}{flags}")
        if method in known:
            document.text(known[method])
            document.code(f"--method {method}")
            if settings := layers.path_of("methods", method).read_text(encoding="utf-8").split("\n", 1)[1].strip():
                document.code(settings)
                document.bullets([about(family, component) for family, component in components_of(method)])
        numbers = summary[summary["method"] == method]
        document.table(numbers.drop(columns=["method"]))
    return document.write(file.parent, file.stem)


def components_of(method: str) -> list[tuple[str, str]]:
    """Return (family, name) of every component in a method's file, those in phases and in other components too."""
    registries, found = {**FAMILY_OF, "head": HEADS, "partner": PARTNERS}, []

    def look(table: dict[str, Any]) -> None:
        for key, value in table.items():
            name = value.get("name") if isinstance(value, dict) else value
            if key in registries and name in registries[key].entries():
                found.append((registries[key].family, name))
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    look(inner)

    look(layers.read_toml(layers.path_of("methods", method)))
    return found


def about(family: str, name: str) -> str:
    """Return a component's first line, its reference, and how it differs from that."""
    parts = [" ".join(part.split()) for part in REGISTRIES[family].entries()[name].doc.strip().split("\n\n")]
    source = [part.removeprefix("Reference:").strip() for part in parts if part.startswith("Reference:")]
    differs = [f"*{part.replace(':', ':*', 1)}" for part in parts if part.startswith("Differs from the paper:")]
    return f"`{family}/{name}`: " + " ".join([parts[0], *source, *differs])

"""Pages made from the code: components, metric names, keys, command line, API, the tutorial's output, benchmarks."""

import contextlib
import importlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import divaug
from divaug.__main__ import recipes
from divaug.base.record import TABLE, Latent
from divaug.config import layers
from divaug.config.registry import REGISTRIES
from divaug.config.schema import Component, config_fields, default_of

DOCS = Path(__file__).parent
SCRIPTS = (
    "start_up",
    "step_overhead",
    "monitor",
    "reference_loop",
    "neighbours",
    "growth",
    "streaming",
)
FAMILIES = {
    "samplers": "Which training images an epoch visits.",
    "losses": "From logits and labels to one loss per row.",
    "class_weights": "Weights of classes in the loss.",
    "pixel": "One image in, one image out.",
    "mix": "A batch of images in, a batch of images and mixed labels out.",
    "partners": "Which images of the training cut are mixed into a batch.",
    "feature": "Embeddings and labels in, embeddings and labels out.",
    "optim": "Optimisers.",
    "posthoc": "A new head for a trained network, from its embeddings: `python -m divaug.recipes.posthoc RUN`.",
    "models": "Backbones; `timm:NAME` is any model of timm.",
    "heads": "Classifiers on top of embeddings.",
    "datasets": "Data sets, embedded, downloaded or your own.",
}


def write_all(folder: Path) -> None:
    """Write every generated page into a folder."""
    folder.mkdir(exist_ok=True)
    pages = {
        "components.md": components(),
        "methods.md": methods(),
        "metrics.md": metrics(),
        "configuration.md": configuration(),
        "command_line.md": command_line(),
        "api.rst": api(),
        "tutorial.md": tutorial(),
        "diversity.md": study(folder),
        "what_is_fast.md": what_is_fast(),
        "which_method.md": which_method(folder),
    }
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:  # else Sphinx would read it again
            file.write_text(text, encoding="utf-8")


def what_is_fast() -> str:
    """Return the page on speed with the committed results of the benchmarks."""
    rows, machines = [], {}
    measured = [DOCS.parent / "benchmarks" / "results" / f"{name}.json" for name in SCRIPTS]
    for file in filter(Path.exists, measured):
        result = json.loads(file.read_text(encoding="utf-8"))
        machines[", ".join(f"{key} {value}" for key, value in result["machine"].items())] = None
        for one in result["records"]:
            spread = " [{:.4g}, {:.4g}]".format(*one["quartiles"]) if "quartiles" in one else ""
            said = {True: "met", False: "**missed**", None: ""}[one["met"]]
            rows.append((f"`{one['name']}`", one["question"], f"{one['value']:.4g}{spread}", one["target"] or "", said))
    listed = table(["measure", "what it is", "value [quartiles]", "target", ""], rows)
    text = (DOCS / "what_is_fast.md").read_text(encoding="utf-8")
    return text.replace("{table}", f"{listed}\n\nMachine: {'; '.join(machines)}.")


def which_method(folder: Path) -> str:
    """Return the guide to methods, written from the committed rows of all of them."""
    from divaug.report import guide, results
    from divaug.report.document import Document

    cost = json.loads((DOCS.parent / "benchmarks" / "results" / "method_cost.json").read_text(encoding="utf-8"))
    document = Document("Which method?")
    guide.write_guide(
        document, results.read(DOCS.parent / "recipes" / "methods" / "cifar10.csv"),
        {record["name"].removeprefix("cost/"): (record["value"], *record["range"]) for record in cost["records"]},
        command="python -m divaug.recipes.cifar_lt",
        measured=f"benchmarks/method_cost.py with the preset sprint, {cost['machine']['processor']}",
    )  # fmt: skip
    return document.markdown(folder)


def study(folder: Path) -> str:
    """Return the report of the study of breadth against number, and copy its figures beside the page."""
    report = DOCS.parent / "recipes" / "study" / "breadth" / "report.md"
    for figure in report.parent.glob("*.png"):
        copy = folder / figure.name
        if not copy.exists() or copy.read_bytes() != figure.read_bytes():
            copy.write_bytes(figure.read_bytes())
    return report.read_text(encoding="utf-8")


def cell(text: object) -> str:
    """Return text for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "---|" * lines[0].count(" | ") + "---|")
    return "\n".join([*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in rows)])


def prose(docstring: str) -> str:
    """Return a docstring in Markdown: sections become bold paragraphs, arguments a list."""
    parts = []
    for block in docstring.strip().split("\n\n"):
        lines = block.splitlines()
        head = re.fullmatch(r"(Args|Raises|Returns|Reference|Example):", lines[0].strip())
        if head is None:
            parts.append(" ".join(line.strip() for line in lines))
            continue
        body = lines[1:]
        if head[1] == "Example":
            parts.append("**Example**\n\n```python\n" + "\n".join(line.strip() for line in body) + "\n```")
        elif head[1] in ("Args", "Raises"):
            items: list[str] = []
            for line in body:
                if re.match(r" {4}\S", line):
                    items.append(line.strip())
                elif items:
                    items[-1] += " " + line.strip()
            named = [re.sub(r"^(\w+):", r"`\1`:", item) for item in items]
            parts.append(f"**{head[1]}**\n\n" + "\n".join(f"- {item}" for item in named))
        else:
            parts.append(f"**{head[1]}** " + " ".join(line.strip() for line in body))
    return "\n\n".join(re.sub(r"``([^`]+)``", r"`\1`", part) for part in parts)


def components() -> str:
    """Return the page of all registered components, as ``--describe`` knows them."""
    parts = [
        "# Components",
        (
            "Every component by family. `--FAMILY NAME` chooses one, `--FAMILY.OPTION VALUE` sets an option of it; "
            "`divaug cifar_lt --describe NAME` prints what stands here."
        ),
    ]
    for family, about in FAMILIES.items():
        entries = REGISTRIES[family].entries()
        parts += [
            f"## {family}",
            about,
            table(["name", "what it does"], [(f"`{name}`", e.summary) for name, e in entries.items()]),
        ]
        for name, entry in entries.items():
            parts += [f"### {family}/{name}", prose(entry.doc)]
            if entry.options:
                rows = [
                    (f"`{option}`", f"`{kind or 'any'}`", f"`{default}`" if default else "required")
                    for option, (kind, default) in entry.options.items()
                ]
                parts.append(table(["option", "type", "default"], rows))
    missing = set(REGISTRIES) - set(FAMILIES)
    assert not missing, f"families without a line here: {missing}"
    return "\n\n".join(parts) + "\n"


def methods() -> str:
    """Return the page of named methods and presets."""
    about = "A method is a named set of components, a preset a named set of network and optimisation keys."
    parts = ["# Methods and presets", about]
    for kind in ("methods", "presets"):
        parts.append(f"## {kind}")
        for name, about in layers.names(kind).items():
            text = layers.path_of(kind, name).read_text(encoding="utf-8").split("\n", 1)[1].strip()
            parts += [f"### {kind[:-1]} {name}", about.rstrip(".") + "."]
            parts += [f"```toml\n{text}\n```"] if text else []
    return "\n\n".join(parts) + "\n"


def metrics() -> str:
    """Return the page of metric names."""
    rows = []
    for metric in TABLE:
        where = "per class" if metric.per_class else "number"
        if metric.scalar and metric.per_class:
            where = "per class, and group means" if isinstance(metric, Latent) else "per class, and one number"
        rows.append(
            (f"`{metric.name}`", metric.meaning, metric.unit, where, "yes" if metric.to_mlflow else "folder only")
        )
    return "\n\n".join([
        "# Metric names",
        ("What a run writes into `metrics.jsonl` (numbers of an epoch), `per_class.parquet` (numbers of a class) and "
        "`result.json` (`final/...`: the last epoch's, with `_` for the slash). *MLflow* says whether the number is "
        "mirrored there. Group means have `_head`, `_mid` or `_tail` behind the name; a second and further K has "
        "`_topK`; rows made of several images are apart, with `_mixed`."),
        table(["name", "meaning", "unit", "what it is", "MLflow"], rows),
    ]) + "\n"  # fmt: skip


def configuration() -> str:
    """Return the page of configuration keys."""
    parts = [
        "# Configuration keys",
        (
            "Every key is a TOML key and a keyword of `divaug.configure`, and nearly all are flags (dashes for "
            "underscores). Precedence, lowest first: defaults, recipe, preset, method, `--config`, `DIVAUG_*`, flags. "
            "*protocol* keys tell which runs can be compared; *method* keys are what is compared; *where* "
            "keys change no result."
        ),
    ]
    groups: dict[str, list[tuple[object, ...]]] = {}
    for key, field in config_fields().items():
        default = default_of(key)
        shown = default.name if isinstance(default, Component) else default
        text = field.metadata["help"]
        if field.metadata["choices"]:
            text += f": {', '.join(field.metadata['choices'])}"
        groups.setdefault(field.metadata["group"], []).append((f"`{key}`", text, f"`{shown}`", field.metadata["kind"]))
    for group, rows in groups.items():
        parts += [f"## {group}", table(["key", "meaning", "default", "kind"], rows)]
    return "\n\n".join(parts) + "\n"


def command_line() -> str:
    """Return the page of recipes with their --help."""
    listed = table(["recipe", "what it does"], [(f"`{name}`", text) for name, text in recipes().items()])
    parts = ["# Command line", "`divaug NAME` is `python -m divaug.recipes.NAME`.", listed]
    os.environ["COLUMNS"] = "100"
    for name in recipes():
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            importlib.import_module(f"divaug.recipes.{name}").main(["--help-all" if name == "train" else "--help"])
        parts += [f"## {name}", f"```text\n{out.getvalue().strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def api() -> str:
    """Return the page of public functions and classes, for autodoc."""
    about = "What ``from divaug import ...`` and its packages offer. Components stand under :doc:`components`."
    parts = ["API", "===", "", about, ""]
    for module in ("divaug", "divaug.interop", "divaug.latent", "divaug.models"):
        parts += [module, "-" * len(module), ""]
        package = importlib.import_module(module)
        for name in sorted(package.__all__, key=str.lower):
            thing = getattr(package, name)
            home = getattr(thing, "__module__", None)
            if name.startswith("__") or name.isupper() or home is None or not home.startswith("divaug"):
                continue
            if module == "divaug" and home.startswith("divaug.interop"):
                continue  # below
            kind = "autoclass" if isinstance(thing, type) else "autofunction"
            parts += [f".. {kind}:: {home}.{name}", *(["   :members:"] if kind == "autoclass" else []), ""]
    return "\n".join(parts) + "\n"


def tutorial() -> str:
    """Return the tutorial with the output of each of its code blocks, run in order in an empty folder."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    space: dict[str, object] = {}
    before = Path.cwd()

    def run(block: re.Match[str]) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(block[1], "tutorial", "exec"), space)
        said = out.getvalue().rstrip()
        return f"```python\n{block[1]}```" + (f"\n\n```text\n{said}\n```" if said else "")

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return re.sub(r"```python\n(.*?)```", run, text, flags=re.DOTALL)
        finally:
            os.chdir(before)


if __name__ == "__main__":
    write_all(DOCS / "generated")
    print(f"divaug {divaug.__version__}: {', '.join(p.name for p in sorted((DOCS / 'generated').iterdir()))}")

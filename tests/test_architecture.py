import ast
import pkgutil
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import divaug

PACKAGE = Path(divaug.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ONLY_IMPORTERS = {
    "mlflow": {"runs/trackers/mlflow.py", "runs/trackers/store.py"},
    "matplotlib": {
        "figures/confusion.py",
        "figures/gallery.py",
        "figures/latent.py",
        "figures/run.py",
        "figures/style.py",
    },
    "albumentations": {"pixel/albumentations.py"},
    "timm": {"models/timm_backbone.py", "pixel/timm.py"},
}


def unit(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yield (top-level package, dotted module) of every import statement of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "divaug":
                yield from (f"divaug.{alias.name}" for alias in node.names)
            else:
                yield node.module


def allowed_edges():
    block = re.search(r"```text\n(__init__:.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    return {line.split(":")[0]: set(line.split(":")[1].split()) for line in block[1].strip().splitlines()}


def test_every_import_is_on_the_list():
    edges = allowed_edges()
    used = {name: set() for name in edges}
    for path in MODULES:
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "divaug" and len(parts) > 1 and unit(path) != parts[1] and not parts[1].startswith("__"):
                assert parts[1] in edges[unit(path)], f"{path.relative_to(ROOT)} imports divaug.{parts[1]}"
                used[unit(path)].add(parts[1])
    assert used == edges, "an edge on the list is used by nothing"


def test_rooms_import_only_rooms_above_them():
    """The list is in order, and no line names itself or a line below."""
    edges = allowed_edges()
    rooms = list(edges)
    for number, room in enumerate(rooms):
        if not room.startswith("_"):
            assert edges[room] <= set(rooms[:number]), room


def test_no_files_import_each_other_in_a_circle():
    """Not within a room either; imports within functions count, those for type checkers do not."""

    def names_only(node):
        return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"

    def statements(node):
        for child in ast.iter_child_nodes(node):
            if not names_only(child):
                yield child
                yield from statements(child)

    files = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    graph = {}
    for name, path in files.items():
        used = set()
        for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & files.keys()
                used |= inner or {node.module}  # a file of the package, or names out of one
        graph[name] = used & files.keys() - {name}
    assert sum(map(len, graph.values())) > 500  # they were seen
    TopologicalSorter(graph).prepare()


def test_exactly_the_modules_that_can_be_imported_were_seen():
    """The imports above were read from files; this is what Python finds. Loose files are three."""
    found = {info.name for info in pkgutil.walk_packages(divaug.__path__, "divaug.")} | {"divaug"}
    seen = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    assert seen == found
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "_torchvision_cpu.py"}
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(allowed_edges()) - {
        "__init__", "__main__", "_torchvision_cpu"
    }  # fmt: skip
    assert {unit(path) for path in MODULES} == set(allowed_edges())


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_heavy_libraries_have_one_importer(library):
    found = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        for module in imports(path)
        if module.split(".")[0] == library
    }
    assert found == ONLY_IMPORTERS[library]


def test_no_file_is_too_long():
    lengths = {path.relative_to(PACKAGE): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    for path, length in lengths.items():
        limit = 200 if path.parts[0] == "recipes" else 400
        assert length <= limit, f"{path} has {length} lines"


def test_no_public_name_is_a_modules_name():
    for init in PACKAGE.rglob("__init__.py"):
        source = init.read_text(encoding="utf-8")
        names = set(re.findall(r'^    "(\w+)": "divaug', source, re.MULTILINE))
        siblings = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
        assert not names & siblings


def test_public_names_exist():
    from divaug import data, latent, models  # noqa: F401

    for module in (divaug, latent, models):
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)
        with pytest.raises(AttributeError, match="no_such_name"):
            module.no_such_name  # noqa: B018


def test_hooks_use_the_versions_that_are_pinned():
    pins = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    hooks = re.findall(
        r'additional_dependencies: \["([^"]+)"\]', (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    )
    assert hooks and all(f'"{pin}",' in pins for pin in hooks)


def test_everything_imported_is_declared():
    """What divaug imports stands in pyproject.toml: nothing comes by way of something else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *project["optional-dependencies"]["export"],
        *project["optional-dependencies"]["ray"],
    ]
    names = {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in declared}
    called = {"sklearn": "scikit_learn", "PIL": "pillow", "imagehash": "ImageHash"}
    used = (
        {module.split(".")[0] for path in MODULES for module in imports(path)}
        - set(sys.stdlib_module_names)
        - {"divaug"}
    )
    assert {called.get(name, name) for name in used} == names - {"pyarrow"}  # pandas writes parquet by it


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == divaug.__version__
    assert f"version: {divaug.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")

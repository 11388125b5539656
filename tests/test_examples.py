"""Every example in a docstring runs as written, and everything public that can have one has one."""

import doctest
import inspect
import pkgutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import divaug
from divaug import interop, latent

SKIPPED = ("divaug.recipes", "divaug.__main__")
WITH_EXAMPLES = ("MixedLabels", "configure", "long_tail", "mixed_loss", "stream", "watch")  # the others need a run


def _has_examples(name):
    spec = find_spec(name)
    return spec is not None and spec.origin is not None and ">>>" in Path(spec.origin).read_text(encoding="utf-8")


def _modules():
    """Names of the modules with examples, told from their text: most are not worth importing while tests are found."""
    found = [module.name for module in pkgutil.walk_packages(divaug.__path__, "divaug.")]
    return [name for name in ["divaug", *found] if not name.startswith(SKIPPED) and _has_examples(name)]


def _examples(name):
    """All doctests of a module, without its names: an example imports what it uses.

    doctest itself passes over functions that a decorator has wrapped, as the type checks of these tests do.
    """
    module, everything = import_module(name), doctest.DocTestFinder(exclude_empty=True)
    found = doctest.DocTestFinder(recurse=False).find(module, name, globs={})
    for key, value in vars(module).items():
        if (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__ == name:
            found += everything.find(value, f"{name}.{key}", module=False, globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", _modules())
def test_examples_run_as_written(name):
    tests = _examples(name)
    text = inspect.getsource(import_module(name))
    assert sum(len(test.examples) for test in tests) == text.count(">>> ")  # none was passed over
    said = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test, out=said.append)
    assert not said, "".join(said)


PUBLIC = [
    *(("divaug.latent", name) for name in latent.__all__),
    *(("divaug.interop", name) for name in interop.__all__),
    *(("divaug", name) for name in WITH_EXAMPLES),
]


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_whatever_is_public_shows_its_use(package, name):
    text = inspect.getdoc(getattr(import_module(package), name)) or ""
    assert "Example:" in text and ">>>" in text

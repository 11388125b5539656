"""The course's notebook: it was executed as it is, and its code still runs."""

import ast
import json
import re
from pathlib import Path

NOTEBOOK = json.loads((Path(__file__).parents[1] / "docs" / "three_figures.ipynb").read_text(encoding="utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_its_cells_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = []
    for cell in CELLS:
        code = "".join(cell["source"]).replace('"epochs": 20', '"epochs": 1, "model.widths": [8, 16]')
        tree = ast.parse(code.replace("range(3)", "range(2)"))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "notebook", "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), "notebook", "eval"), names))
    assert list(shown[0].figures) == ["confusion.png", "growth.png", "recall.png", "taken_for.png"]
    assert "Differences from erm" in repr(shown[1]) and len(shown[1].figures) >= 3
    assert len(names["runs"]) == 6 and len(names["classes"]) == 60
    assert (tmp_path / "recall_by_size.png").exists()


def test_it_was_executed_in_order_and_shows_its_figures():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    pages = "".join(str(output) for cell in CELLS[:2] for output in cell["outputs"])
    assert len(re.findall("data:image/png;base64", pages)) >= 5
    assert not any(output["output_type"] == "error" for cell in CELLS for output in cell["outputs"])
    assert "/root" not in json.dumps(NOTEBOOK) and "/home" not in json.dumps(NOTEBOOK)

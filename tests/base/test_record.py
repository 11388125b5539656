"""The table of metric names, and that nobody uses a name that is not in it."""

import ast
import re
from pathlib import Path

import pytest

import divaug
from divaug.base import record

PREFIXES = ("train", "aug", "best_on_test", *record.PARTS, *record.SPACES)
KEY = re.compile(rf"(?:final/\w+|(?:{'|'.join(PREFIXES)})/\w+)")


def literals():
    """Every string of the package that looks like a metric's key, whole or the constant start of an f-string."""
    for path in sorted(Path(divaug.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in parts:
                continue
            if KEY.fullmatch(node.value) and path.name != "record.py":
                yield path.name, node.value


def test_every_name_in_the_code_is_in_the_table():
    found = sorted(literals())
    assert len(found) > 40
    for file, key in found:
        for per_class in (False, True):
            try:
                record.find(key, per_class=per_class)
                break
            except KeyError:
                continue
        else:
            assert key.startswith("views/rarefied") or record.find(f"{key}_tail"), (file, key)


@pytest.mark.parametrize(
    ("key", "name", "in_mlflow"),
    [
        ("test/bal_acc", "{part}/bal_acc", True),
        ("val/acc_tail", "{part}/acc_{group}", True),
        ("test/acc_few", "{part}/acc_{shot}", True),
        ("views/number_tail", "views/number", True),
        ("views/number_mixed_tail", "views/number", False),
        ("views/number_top20_tail", "views/number", False),
        ("views/growth_tail", "views/growth", True),
        ("views/growth_rarefied_5_tail", "views/growth_rarefied_{m}", False),
        ("train_clean/rarefied_20_head", "train_clean/rarefied_{m}", True),
        ("train_clean/effective_head", "train_clean/effective", False),
        ("encoder_views/number_mid", "encoder_views/number", True),
        ("encoder_views/rarefied_5_mid", "encoder_views/rarefied_{m}", False),
        ("test_clean/number_tail", "test_clean/number", False),
        ("final/test_acc_tail", "{part}/acc_{group}", True),
        ("final/train_clean_rarefied_5_tail", "train_clean/rarefied_{m}", True),
        ("final/test_clean_number_tail", "test_clean/number", False),
        ("final/encoder_train_clean_number_tail", "encoder_train_clean/number", True),
        ("final/views_number_tail", "views/number", False),
        ("final/train_seconds", "final/train_seconds", True),
        ("best_on_test/bal_acc", "best_on_test/bal_acc", True),
    ],
)
def test_a_key_is_found_with_where_it_goes(key, name, in_mlflow):
    assert record.find(key).name == name and record.goes_to_mlflow(key) is in_mlflow


def test_an_unknown_name_is_refused():
    for key in ("test/accuracy", "views/n_tail", "views/number", "final/test_accuracy", "aug/rows"):
        with pytest.raises(KeyError, match="in no line of the table"):
            record.checked({key: 1.0})
    assert record.checked({"aug/rows": [1]}, per_class=True) == {"aug/rows": [1]}
    with pytest.raises(KeyError, match="test/acc"):
        record.checked({"test/acc": [1]}, per_class=True)


def test_lines_are_complete_and_apart():
    names = [metric.name for metric in record.TABLE]
    assert len(set(names)) == len(names)
    for metric in record.TABLE:
        assert metric.meaning and not metric.meaning.endswith(".") and (metric.scalar or metric.per_class)

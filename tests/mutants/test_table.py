"""The table of mutants fits the code: a refactoring must take its lines along."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = tomllib.loads((Path(__file__).parent / "table.toml").read_text(encoding="utf-8"))


def test_every_replacement_has_one_place_and_tests():
    for mutant in TABLE["mutant"]:
        file = ROOT / mutant["file"]
        assert file.read_text(encoding="utf-8").count(mutant["old"]) == 1, (mutant["file"], mutant["old"])
        assert mutant["old"] != mutant["new"] and mutant["file"] in TABLE["tests"], mutant
    for tests in TABLE["tests"].values():
        assert all((ROOT / test).exists() for test in tests), tests

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "recipes" / "custom_augmentation"


def test_the_example_package_installs_and_runs(tmp_path, tiny_arguments):
    """As a user would, but into a folder of its own and without the network."""
    copy = tmp_path / "source"  # building leaves files beside the source
    copy.mkdir()
    for file in EXAMPLE.rglob("*.*"):
        if file.is_file():
            target = copy / file.relative_to(EXAMPLE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", tmp_path / "site", copy], check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def divaug(recipe, *argv):
        command = [sys.executable, "-m", f"divaug.recipes.{recipe}", *argv]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "sepia_tail" in [line.split()[0] for line in divaug("digits_lt", "--list", "pixel").splitlines()]
    assert "8 checks, 0 failed" in divaug("check", "sepia_tail", "--pixel.rate", "1.0")
    divaug("digits_lt", *tiny_arguments, "--epochs", "1", "--pixel", "default+sepia_tail")
    assert (tmp_path / "runs" / "tiny" / "erm+pixel=default+sepia_tail" / "seed0" / "result.json").exists()

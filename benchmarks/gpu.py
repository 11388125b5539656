"""Does divaug run on this card, and how fast? Under eight minutes: ``make gpu``.

First the tests marked ``cuda`` (equal draws and counts, steps that do not wait for the device, checkpoints to and from
the CPU), then ``cifar_lt --methods erm,cmo`` on CIFAR-10, or on digits where CIFAR-10 is not found. Written to
``build/gpu.json``: the device, what passed, and seconds and accuracy of each run. Further arguments go to the recipe.

    python benchmarks/gpu.py [--data-root DIR] [--out FILE] [ARGUMENTS OF cifar_lt]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", metavar="DIR", help="where CIFAR-10 lies (default: as cifar_lt looks for it)")
    parser.add_argument("--out", metavar="FILE", default=str(ROOT / "build" / "gpu.json"))
    chosen, more = parser.parse_known_args()
    import torch

    if not torch.cuda.is_available():
        print("there is no CUDA device here: nothing was measured", file=sys.stderr)
        return 1
    found = {
        "device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
    }  # fmt: skip
    print(json.dumps(found))
    started = time.perf_counter()
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", *cuda_tests()],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found["tests"] = {
        "passed": tests.returncode == 0,
        "said": tests.stdout.strip().splitlines()[-1:],
        "failed": [line for line in tests.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))],
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(tests.stdout[-4000:])
    found["runs"] = runs(chosen.data_root, more)
    out = Path(chosen.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(out.read_text())
    return tests.returncode or int(found["runs"]["exit_code"])


def cuda_tests() -> list[str]:
    """Return the files with tests marked ``cuda``: collecting the others would need all development packages."""
    return sorted(str(file) for file in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in file.read_text())


def runs(data_root: str | None, more: list[str]) -> dict[str, object]:
    """Train erm and cmo, and return what each took and reached."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "divaug.recipes.cifar_lt", "--methods", "erm,cmo", "--output-dir", folder]
        command += ["--tracking", "off", "--progress", "lines", "--device", "cuda", *more]
        root = ["--data-root", data_root] if data_root else ["--no-download"]
        started = time.perf_counter()
        dataset = more[more.index("--dataset") + 1] if "--dataset" in more else "cifar10"
        done = subprocess.run([*command, *root], cwd=ROOT, text=True, check=False)
        if done.returncode == 3:  # no CIFAR-10 here
            dataset = "digits"
            done = subprocess.run([*command, "--dataset", "digits"], cwd=ROOT, text=True, check=False)
        made: dict[str, object] = {
            "dataset": dataset, "arguments": more, "exit_code": done.returncode,
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip
        for file in sorted(Path(folder).rglob("result.json")):
            result = json.loads(file.read_text())
            keys = ("final/test_bal_acc", "final/test_acc_tail", "final/train_seconds", "final/total_seconds")
            made[file.parents[1].name] = {key: round(result[key], 4) for key in keys}
        return made


if __name__ == "__main__":
    sys.exit(main())

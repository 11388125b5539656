"""Break the wiring one line at a time and see a test fail: ``make mutants``. Outside CI: it takes minutes.

``table.toml`` lists replacements: a file, a piece of a line that occurs there once, what stands in its place, and what
that breaks. Each is made in a copy of the checkout, where the tests nearest to the file run until one fails. A survivor
is a wire that no test holds: write the test, then run this again.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def copy(place):
    """Copy what git knows of the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


def tested(place, tests):
    """Run tests in a copy until one fails; return whether all passed, and the last line of what pytest said."""
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-m",
        "not slow and not cuda",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("FAILED") or "passed" in line]
    return done.returncode == 0, said[0] if said else done.stdout[-200:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies at work (default: processors)")
    parser.add_argument("--only", help="part of a file's name: only its replacements")
    chosen = parser.parse_args()
    table = tomllib.loads((HERE / "table.toml").read_text(encoding="utf-8"))
    mutants = [m for m in table["mutant"] if not chosen.only or chosen.only in m["file"]]
    started, survivors = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(chosen.jobs) as pool:
        free = []
        for number in range(chosen.jobs):
            free.append(Path(folder) / str(number))
            copy(free[-1])
        for mutant in mutants:
            found = (free[0] / mutant["file"]).read_text(encoding="utf-8").count(mutant["old"])
            if found != 1:
                print(f"{mutant['file']}: {mutant['old']!r} occurs {found} times: mend the table")
                return 2
        passed, said = tested(free[0], sorted({test for m in mutants for test in table["tests"][m["file"]]}))
        if not passed:
            print(f"without any replacement a test fails: {said}")
            return 2
        print(f"without any replacement the tests pass, {time.perf_counter() - started:.0f} s", flush=True)

        def one(mutant):
            place = free.pop()
            try:
                file = place / mutant["file"]
                whole = file.read_text(encoding="utf-8")
                file.write_text(whole.replace(mutant["old"], mutant["new"]), encoding="utf-8")
                began = time.perf_counter()
                survived, said = tested(place, table["tests"][mutant["file"]])
                file.write_text(whole, encoding="utf-8")
                return survived, said, time.perf_counter() - began
            finally:
                free.append(place)

        for mutant, (survived, said, seconds) in zip(mutants, pool.map(one, mutants), strict=True):
            if survived:
                survivors.append(mutant)
            print(
                f"{'SURVIVED' if survived else 'killed':8}  {seconds:5.1f} s  {mutant['file']}: {mutant['why']}  [{said[:90]}]",
                flush=True,
            )
    print(f"{len(mutants)} replacements, {len(survivors)} survivors, {time.perf_counter() - started:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

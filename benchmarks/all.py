"""Run every benchmark of the CPU and print one table of what was asked, measured and missed.

python benchmarks/all.py              # make bench: under fifteen minutes
python benchmarks/all.py --shown      # the table of the committed results
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from harness import RESULTS, line

SCRIPTS = ("start_up", "step_overhead", "monitor", "reference_loop", "neighbours", "growth", "streaming")


def main() -> int:
    failed = []
    if sys.argv[1:] != ["--shown"]:
        for script in SCRIPTS:
            started = time.perf_counter()
            command = [sys.executable, str(Path(__file__).with_name(f"{script}.py"))]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            failed += [script] * bool(done.returncode)
            print(f"{script}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    told = {script: json.loads((RESULTS / f"{script}.json").read_text(encoding="utf-8")) for script in SCRIPTS
            if script not in failed and (RESULTS / f"{script}.json").exists()}  # fmt: skip
    for machine in {json.dumps(result["machine"]): result["machine"] for result in told.values()}.values():
        print("machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"\n{'measure':<28} {'value':>9} {'quartiles':<20} {'target':>9}")
    records = [record for result in told.values() for record in result["records"]]
    for record in records:
        print(line(record))
    judged = [record["met"] for record in records if record["target"]]
    print(f"\n{sum(judged)} of {len(judged)} targets met")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

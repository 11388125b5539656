"""How long until something happens? Help, and the first step of a run, from Enter on.

python benchmarks/start_up.py
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import value, write

HELP, FIRST = 7, 3


def main() -> None:
    asked = [seconds([sys.executable, "-m", "divaug", "cifar_lt", "--help"]) for _ in range(HELP)]
    first = [to_first_step() for _ in range(FIRST)]
    write(__file__, [
        value("help", "seconds of cifar_lt --help", median(asked), "<= 0.5", n=HELP),
        value("first_step", "seconds from Enter to the first step of digits_lt", median(first), "<= 8", n=FIRST),
    ])  # fmt: skip


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def to_first_step() -> float:
    """Return the seconds until the first epoch's row is written, less the epoch: the steps begin then."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "divaug", "digits_lt", "--method", "erm", "--output-dir", folder, "--quiet"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                rows = list(Path(folder).glob("*/erm/seed0/metrics.jsonl"))
                if rows and "\n" in (text := rows[0].read_text(encoding="utf-8")):
                    waited = time.perf_counter() - started
                    process.kill()
                    return waited - json.loads(text.splitlines()[0])["metrics"]["train/epoch_seconds"]
                time.sleep(0.02)
    raise RuntimeError("the run ended without an epoch")


if __name__ == "__main__":
    main()

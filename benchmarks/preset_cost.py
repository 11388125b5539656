"""What does training with ``fast`` and ``long`` cost, relative to ``sprint``, and what does a strong augmentation add?

    python benchmarks/preset_cost.py

Four steps of 128 made images of 32x32 with logit-adjusted cross-entropy on one thread, alternating with those of
``sprint``, in CPU seconds; times the epochs of each. Evaluations are not in it: ``long`` has eleven, ``sprint`` twelve.
"""

import tomllib
from pathlib import Path

import torch
from harness import interleaved, measure, value, write
from method_cost import steps_of

import divaug

ROUNDS, METHOD, STRONG = 9, "logit_adjusted", "default+trivialaugment"
PRESETS = {"fast": ("fast", {}), "long": ("long", {}), "long, strong": ("long", {"pixel": STRONG})}


def main() -> None:
    threads = torch.get_num_threads()
    base, records = steps_of(METHOD), []
    for name, (preset, more) in PRESETS.items():
        pair = interleaved({name: steps_of(METHOD, preset, **more), "sprint": base}, ROUNDS)
        record = measure(f"step/{name}", f"a step of {name} over one of sprint", pair, name, "sprint", None, of="cpu")
        times = record["value"] * epochs(preset) / epochs("sprint")
        records += [record, value(f"training/{name}", f"training with {name} over training with sprint", times, None)]
    torch.set_num_threads(threads)
    write(__file__, records)


def epochs(preset: str) -> int:
    """Return a preset's epochs on CIFAR."""
    folder = Path(divaug.__file__).parent / "config" / "presets"
    return int(tomllib.loads((folder / f"{preset}.toml").read_text(encoding="utf-8"))["epochs"])


if __name__ == "__main__":
    main()

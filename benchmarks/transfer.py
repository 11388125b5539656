"""Do pretrained weights help on few images? A network trained on CIFAR-10, on blood cells, against one from scratch.

For each of ten grouped splits (a fifth of the slides is held out): from scratch and from the weights, as long as each
other, for 150 and for 1,000 steps; and a new head on the frozen network. The measure is the mean recall of the seven
kinds of cells on held-out slides, at the last step. Rows go to ``benchmarks/results/transfer.csv`` as they are made;
what has a row is not run again.

    DIVAUG_DATA=DIR python benchmarks/transfer.py [--splits 10]
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd

import divaug
from divaug.base.stats import sign_flip_p, t_interval
from divaug.data.images import Request
from divaug.data.load import load_data
from divaug.data.roots import candidates
from divaug.runs.folder import RunFolder
from divaug.runs.loop import run
from divaug.runs.model_folder import save_model

ROWS = Path(__file__).parent / "results" / "transfer.csv"
COMMON = {"tracking": "off", "progress": "none", "monitor": False, "method": "erm", "model": "whitened_cnn"}
ARMS = {
    "scratch": {}, "full": {"weights": "@"}, "last:1": {"weights": "@", "train": "last:1"},
    "head": {"weights": "@", "train": "head"},
}  # fmt: skip
STEPS = (150, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    splits = parser.parse_args().splits
    table = next(file for root in candidates(Request()) if (file := root / "blood_cells" / "cells.csv").is_file())
    rows = pd.read_csv(ROWS).to_dict("records") if ROWS.exists() else []
    done = {(row["arm"], row["steps"], row["split"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        weights = pretrain(where)
        for split in range(splits):
            loaded = {}  # images are decoded once a split and normalisation
            for steps in STEPS:
                for arm, named in ARMS.items():
                    if (arm, steps, split) in done:
                        continue
                    keys = {key: str(weights) if value == "@" else value for key, value in named.items()}
                    found = one(where / f"{arm}-{steps}-{split}", table, steps, split, keys, loaded)
                    rows.append({"arm": arm, "steps": steps, "split": split, **found})
                    print(rows[-1], flush=True)
                    pd.DataFrame(rows).to_csv(ROWS, index=False, float_format="%.5g")
    report(pd.DataFrame(rows))


def pretrain(where: Path) -> Path:
    """Train the network on all of CIFAR-10 for eight epochs, and return its weights in a model folder."""
    keys = {"dataset": "cifar10", "profile": "balanced", "vary": "init", "epochs": 8, "eval_every": 8}
    config = divaug.configure(**COMMON, **keys, output_dir=str(where / "cifar10"))
    folder = run(config)
    print("CIFAR-10:", {key: folder.result[key] for key in ("final/test_bal_acc", "final/train_seconds")}, flush=True)
    return save_model(where / "model", divaug.load(folder.path), folder.config) / "weights.safetensors"


def one(where: Path, table: Path, steps: int, split: int, keys: dict, loaded: dict) -> dict:
    """Train one arm on one split, and return recall and seconds."""
    data = {"dataset": "csv", "path": str(table), "profile": "natural", "vary": "init", "split_seed": split}
    every = {"epochs": 1, "min_steps": steps, "eval_every": 10**6, "output_dir": str(where), "seed": split}
    config = divaug.configure(**COMMON, **data, **every, **keys)
    images = loaded.setdefault(config.weights, None) or load_data(config)
    loaded[config.weights] = images
    result = run(config, RunFolder(where / "e" / "m" / "seed0"), images).result
    return {"mean_recall": result["final/test_bal_acc"], "seconds": result["final/train_seconds"]}


def report(rows: pd.DataFrame) -> None:
    """Print each arm's recall, and what it gains over scratch with as many steps: mean, 95 % interval, sign-flip p."""
    wide = 100 * rows.pivot_table(index="split", columns=["steps", "arm"], values="mean_recall")
    seconds = rows.groupby(["steps", "arm"])["seconds"].median()
    for steps in STEPS:
        for arm in ARMS:
            gain = (wide[(steps, arm)] - wide[(steps, "scratch")]).dropna().tolist()
            low, high = t_interval(gain)
            print(
                f"{steps:5d} steps  {arm:8s} mean recall {wide[(steps, arm)].mean():.1f} %  over scratch "
                f"{sum(gain) / len(gain):+.1f} [{low:+.1f}, {high:+.1f}]  p {sign_flip_p(gain):.3g}  "
                f"n {len(gain)}  {seconds[(steps, arm)]:.1f} s"
            )


if __name__ == "__main__":
    main()

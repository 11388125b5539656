"""Does a promised sensitivity hold? Thresholds from folds on four fifths of the slides, tested on the untouched fifth.

For each of twenty grouped splits of the blood cells: three folds within the training slides (plain training, 150
steps), a threshold for each class so that the lower Wilson bound of the out-of-fold sensitivity keeps 90 %, one network
trained on all training slides, and the sensitivity of its decisions on the held-out slides. Images of one slide count
as fewer, as ``divaug threshold`` counts them, or as independent ones. Rows go to ``benchmarks/results/promise.csv`` as
they are made; what has a row is not run again.

    DIVAUG_DATA=DIR python benchmarks/promise.py [--splits 20]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import divaug
from divaug.base.metrics import softmax
from divaug.data.images import Request
from divaug.data.load import dataset_of
from divaug.data.roots import candidates
from divaug.data.split import folds_of
from divaug.runs.threshold import for_sensitivity, temperature_of
from divaug.study.folds import Deal, train_in_fold

ROWS = Path(__file__).parent / "results" / "promise.csv"
PROMISE, FOLDS, STEPS = 0.9, 3, 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=20)
    splits = parser.parse_args().splits
    table = next(file for root in candidates(Request()) if (file := root / "blood_cells" / "cells.csv").is_file())
    rows = pd.read_csv(ROWS).to_dict("records") if ROWS.exists() else []
    for split in set(range(splits)) - {row["split"] for row in rows}:
        rows += of_split(table, split)
        pd.DataFrame(rows).to_csv(ROWS, index=False, float_format="%.5g")
        print(f"split {split}", flush=True)
    report(pd.DataFrame(rows))


def of_split(table: Path, split: int) -> list[dict[str, object]]:
    """Return, for every class, the promise, whether the folds allowed it, and what the untouched slides give."""
    with tempfile.TemporaryDirectory() as folder:
        config = divaug.configure(
            dataset="csv", path=str(table), split_seed=split, epochs=1, min_steps=STEPS, monitor=False, tracking="off",
            progress="none", eval_every=10**6, output_dir=folder,
        )  # fmt: skip
        dataset = dataset_of(config, split)
        train = dataset.train
        fold, slides = folds_of(train.labels, FOLDS, split, train.groups, train.contents), train.units
        assert slides is not None
        # The held-out slides stand as the data's own test part: no fold sees them.
        dealt = Deal(replace(dataset, carved=False), dataset.identity, train, fold, named_test=True)
        logits = np.full((len(fold), dataset.num_classes), np.nan)
        for k in range(FOLDS):
            logits[fold == k] = np.load(train_in_fold(config, dealt, k).path / "test_outputs.npz")["logits"]
        outputs = np.load(train_in_fold(config, dealt, None).path / "test_outputs.npz")
    tested = fold >= 0
    temperature = temperature_of(logits[tested].astype(np.float64), train.labels[tested])
    inside, outside = (softmax(found.astype(np.float64) / temperature) for found in (logits[tested], outputs["logits"]))
    rows = []
    for c, name in enumerate(dataset.class_names):
        own, held = train.labels[tested] == c, outputs["labels"] == c
        if not own.any() or not held.any():
            continue
        for counted, groups in (("by groups", slides[tested]), ("independent", None)):
            point, allowed = for_sensitivity(inside[:, c], own, PROMISE, groups=groups)
            called = outside[:, c] >= point.threshold
            rows.append({
                "split": split, "class": name, "counted": counted, "images": int(own.sum()),
                "slides": len(np.unique(slides[tested][own])), "count_as": point.independent[0], "allowed": allowed,
                "inside": point.sensitivity[0], "held_out": int(held.sum()), "found": int(called[held].sum()),
                "false": float(called[~held].mean()),
            })  # fmt: skip
    return rows


def report(rows: pd.DataFrame) -> None:
    """Print per class how often the sensitivity on untouched slides reached the promise, and its mean."""
    rows = rows.assign(sensitivity=rows["found"] / rows["held_out"])
    rows["reached"] = rows["sensitivity"] >= PROMISE
    for (counted, allowed), some in rows.groupby(["counted", "allowed"]):
        print(f"\n{counted}: the folds {'allow the promise' if allowed else 'do not allow it (too few images)'}")
        by_class = some.groupby("class").agg(
            splits=("split", "size"), images=("images", "mean"), count_as=("count_as", "mean"),
            held_out=("held_out", "mean"), sensitivity=("sensitivity", "mean"), reached=("reached", "mean"),
            false=("false", "mean"),
        )  # fmt: skip
        print(by_class.sort_values("images").round(3).to_string())
        pooled = some["found"].sum() / some["held_out"].sum()
        print(f"together: sensitivity {pooled:.3f}, reached in {some['reached'].mean():.2f} of {len(some)}")


if __name__ == "__main__":
    main()

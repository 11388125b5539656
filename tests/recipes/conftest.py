"""A tiny folder of images and the smallest run that goes through everything."""

import json

import numpy as np
import pytest
from PIL import Image

TINY = [
    "--tracking", "off", "--progress", "none", "--dataset", "digits", "--epochs", "4", "--imbalance-factor", "5",
    "--max-per-class", "46", "--model.widths", "[8]", "--top-k", "4", "--experiment", "tiny", "--device", "cpu", "--eval-every", "1",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_arguments():
    return tuple(TINY)


@pytest.fixture
def tiny():
    return list(TINY)


@pytest.fixture
def pictures(tmp_path):
    """Two classes told apart by brightness; a CSV with slides beside the folders."""
    rng = np.random.default_rng(0)
    rows = ["path,label,group"]
    for label, count, level in (("bright", 24, 160), ("dark", 9, 20)):
        (tmp_path / "own" / label).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(level, level + 60, (14, 11, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "own" / label / f"{i}.png")
            rows.append(f"{label}/{i}.png,{label},slide{i % 7}")
    (tmp_path / "own" / "cells.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "own"


@pytest.fixture
def no_figures(monkeypatch):
    """Draw no figures, neither of a run nor of a comparison: for tests of something else, as they take a second each."""
    monkeypatch.setattr("divaug.figures.run.figures_of", lambda *a: {})
    monkeypatch.setattr("divaug.figures.compare.draw_comparison", lambda *a: [])


@pytest.fixture
def untimed():
    """Read a run's metrics without the keys that depend on the clock."""

    def read(folder):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            row["metrics"] = {
                k: v for k, v in row["metrics"].items() if not any(w in k for w in ("time", "second", "img_per"))
            }
        return rows

    return read


@pytest.fixture
def facts_of_gallery():
    import torch

    from divaug.config.registry import PIXEL

    counts = torch.tensor([40, 20, 12, 2])
    return {
        "labels": torch.repeat_interleave(torch.arange(4), counts), "class_counts": counts, "group_counts": counts,
        "num_classes": 4, "class_names": ["ant", "bee", "cat", "dog"], "feature_dim": 8, "head_scale": 1.0,
        "total_steps": 10, "seed": 0, "default_pixel": PIXEL.build("crop_flip", facts={}),
        "encoder_features": torch.randn(74, 12, generator=torch.Generator().manual_seed(1)),
    }  # fmt: skip

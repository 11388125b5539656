"""Stamp the committed rows once with preset, data and vary; to be removed when it has run.

    DIVAUG_DATA=... python recipes/augmentation/restamp.py

The rows were made with the preset that is now ``fast_v1``, on one fixed cut (``vary`` init).
"""

import os
from pathlib import Path

import pandas as pd

import divaug
from divaug.config.layers import experiment_name
from divaug.config.tables import protocol_fingerprint
from divaug.data.load import load_data

HERE = Path(__file__).parent
ENCODERS = {"5a9f0176": (10, "cifar10-b-58fbff23.pt"), "e618d04c": (40, "cifar10-b-58fbff23.pt"),
            "a0ced416": (40, "cifar10-b-354d2958.pt")}  # fmt: skip


def stamp(file: Path, keys: dict, protocols: dict[str, dict]) -> None:
    """Replace the identity of every row of a CSV."""
    table = pd.read_csv(file, dtype={"protocol": str})
    data = load_data(divaug.configure(preset="fast_v1", **keys)).identity
    rows = []
    for row in table.to_dict("records"):
        config = divaug.configure(preset="fast_v1", **keys, **protocols[row["protocol"]])
        assert config.epochs == row["epochs"] and config.vary == "init" and config.subset == "literature"
        own = {"experiment": experiment_name(config), "protocol": protocol_fingerprint(config), "data": data}
        rest = {key: value for key, value in row.items() if key not in ("experiment", "protocol", "epochs")}
        told = {"preset": "fast_v1", "vary": "init", "epochs": row["epochs"]}
        rows.append({**own, "method": rest.pop("method"), "seed": rest.pop("seed"), **told, **rest})
    made = pd.DataFrame(rows).rename(columns={"prior_corrected_tau": "test_prior_corrected_tau"})
    made.to_csv(file, index=False, float_format="%.5g")
    print(file.name, len(made), "rows", sorted(set(made["experiment"])))


if __name__ == "__main__":
    stamp(
        HERE / "cifar10.csv", {"config": str(HERE / "cifar10.toml")},
        {old: {"epochs": epochs, "encoder": encoder} for old, (epochs, encoder) in ENCODERS.items()},
    )  # fmt: skip
    cells = Path(os.environ["DIVAUG_DATA"]) / "blood_cells" / "cells.csv"
    stamp(HERE / "blood_cells.csv", {"dataset": "csv", "path": str(cells), "image_size": 32}, {"54f2d380": {}})

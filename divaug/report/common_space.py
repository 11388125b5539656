"""The diversity of finished runs in one common encoder's space: of their images, and of the views they trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from divaug.data.load import varied
from divaug.latent.tables import diversity_table, rarefaction_table, views_table
from divaug.runs.embed import encode, encode_views
from divaug.runs.folder import RunFolder
from divaug.runs.load import data_of
from divaug.train.build import load_encoder

EPOCHS = 5  # whose views are replayed; an image needs several views to have a richness


def common_space(runs: Mapping[str, Sequence[RunFolder]], file: str, allow_overlap: bool) -> Any:
    """Return tidy tables of all runs in the encoder's space, with columns for method and seed.

    Args:
        runs: Finished runs of one protocol, by method.
        file: The encoder.
        allow_overlap: Accept an encoder that has seen images of the runs.
    """
    import pandas as pd

    tables = []
    known: dict[Any, Any] = {}
    for label, folders in runs.items():
        for folder in folders:
            config = folder.config
            key = config.extra_train, *varied(config)  # all that data depend on within one protocol
            if key not in known:
                data = data_of(folder)
                encoder = load_encoder(file, data, allow_overlap=allow_overlap)
                clean, held_out = encode(encoder, data, "train"), encode(encoder, data, "test")
                of_images = [rarefaction_table(clean, config.top_k), diversity_table(clean, held_out)]
                known[key] = encoder, data, held_out, of_images
            encoder, data, held_out, of_images = known[key]
            logs = [row for row in folder.metrics.rows() if "aug/level" in row["per_class"]]
            levels = {row["epoch"]: row["per_class"]["aug/level"] for row in logs}
            last = range(max(0, config.epochs - EPOCHS), config.epochs)
            views = encode_views(encoder, config, data, last, levels)
            of_views = diversity_table(views, held_out, size=20)
            of_views["measure"] += "_views"
            found = [*of_images, views_table(views, config.top_k), of_views]
            tables += [table.assign(method=label, seed=config.seed) for table in found]
    return pd.concat(tables, ignore_index=True)


def summary(table: Any) -> str:
    """Return means over seeds and tail classes: one row per method, one column per measure."""
    shown = ["rarefied_5", "vendi", "rarefied_5_views", "within_5_views", "between_5_views", "vendi_views",
             "coverage_views"]  # fmt: skip
    tail = table[(table["tercile"] == "tail") & table["measure"].isin(shown)]
    wide = tail.pivot_table(index="method", columns="measure", values="value", sort=False)
    return "tail classes, mean over seeds\n" + wide[[m for m in shown if m in wide]].round(2).to_string()

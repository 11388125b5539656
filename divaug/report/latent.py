"""The full latent report of one trained network: tables, figures and feature cards, in a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from divaug.base.errors import DivaugError
from divaug.base.files import make_folder, write_text
from divaug.base.progress import Progress
from divaug.data.load import Data
from divaug.figures import latent as plots
from divaug.latent.embeddings import Embeddings
from divaug.latent.rarefaction import SATURATED
from divaug.latent.statistics import ADAPTIVE, class_statistics, class_top_k
from divaug.latent.tables import all_tables
from divaug.report.document import Document, plain
from divaug.runs.embed import embed, encode, loader_of
from divaug.runs.folder import RunFolder
from divaug.runs.load import data_of, load
from divaug.train.build import load_encoder

CARD_FEATURES, CARD_IMAGES = 5, 5
SHOWN_DIVERSITY = ["class_name", "tercile", "n", "size", "measure", "value", "low", "high"]


def write_latent_report(
    folder: Path, model: Any, data: Data, *, k: int = 10, cards: tuple[str, ...] = ("largest", "smallest")
) -> tuple[dict[str, Any], list[tuple[Path, str]]]:
    """Measure a network's training and test images, write tables and figures, and return both.

    Args:
        folder: Output folder; gets ``embeddings/{train,test}.npz``, one CSV per table, and PNGs.
        model: A trained network.
        data: Its data.
        k: K of the top-K sets.
        cards: Classes to draw feature cards of: names, or "largest" and "smallest".

    Returns:
        The tables by name, and figures with their captions.

    Raises:
        DivaugError: A card's class is unknown or has no training image. Nothing is measured or written then.
    """
    carded = [_class_of_card(wanted, data) for wanted in cards]
    make_folder(folder / "embeddings")
    train, test = embed(model, data, "train"), embed(model, data, "test")
    for bundle in (train, test):
        bundle.save(folder / "embeddings" / bundle.split)
    k = min(k, train.dimensions)
    tables = all_tables(train, test, k)
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    figures = _figures(folder, train, test, tables, k)
    for c in carded:
        try:
            card = draw_feature_card(folder / f"card_{c}.png", model, data, train, c, k)
        except DivaugError as error:
            Progress().warn(str(error))
            break
        figures.append(
            (card, f"Feature card of {train.class_names[c]}: its top features, and the images that use each most.")
        )
    return tables, figures


def write_run_report(
    folder: RunFolder,
    *,
    command: str,
    cards: tuple[str, ...] = ("largest", "smallest"),
    encoder: str | None = None,
    allow_overlap: bool = False,
) -> tuple[Path, Path]:
    """Write the latent report of a finished run into its folder ``latent``; return Markdown and HTML.

    Args:
        folder: The run.
        command: The command that makes the report.
        cards: As for `write_latent_report`.
        encoder: Common encoder in whose space to measure as well; its tables are ``*_encoder.csv``.
        allow_overlap: Accept an encoder that has seen images of the run.
    """
    config = folder.config
    data = data_of(folder)
    common = load_encoder(encoder, data, allow_overlap=allow_overlap) if encoder is not None else None
    out = folder.path / "latent"
    tables, figures = write_latent_report(out, load(folder).network, data, k=config.top_k, cards=cards)
    document = Document(f"Latent features of {folder.experiment}, {folder.label}, seed {config.seed}")
    document.code(command)
    document.bullets(remarks(Embeddings.load(out / "embeddings" / "train"), tables))
    if notes := folder.manifest.get("notes"):
        document.heading("Noticed in the data")
        document.bullets([plain(note) for note in notes])
    document.text("The claims are about differences between networks. To test them, run the recipe without RUN.")
    for path, caption in figures:
        document.figure(path, caption)
    shown = tables["rarefaction"]
    document.heading("Rarefied numbers")
    document.table(shown[shown["m"].notna()][
        ["class_name", "tercile", "split", "n", "K", "m", "value", "ceiling", "used", "saturated", "largest_common"]
    ])  # fmt: skip
    document.heading("Diversity of embeddings at equal size")
    document.table(tables["diversity"][SHOWN_DIVERSITY])
    if common is not None:
        in_space = all_tables(encode(common, data, "train"), encode(common, data, "test"), config.top_k)
        for name, table in in_space.items():
            write_text(out / f"{name}_encoder.csv", table.to_csv(index=False, float_format="%.6g"))
        document.heading(f"In the space of {Path(str(encoder)).name} (top-K FE; there are no class weights)")
        document.table(in_space["diversity"][SHOWN_DIVERSITY])
    return document.write(out, "latent_report")


def _class_of_card(wanted: str, data: Data) -> int:
    names = data.dataset.class_names
    order = [int(c) for c in np.argsort(-data.counts, kind="stable") if data.counts[c]]
    if wanted in ("largest", "smallest"):
        return order[0 if wanted == "largest" else -1]
    if wanted not in names:
        raise DivaugError(f"no class is named {wanted!r}; the classes are {names}")
    if not data.counts[names.index(wanted)]:
        raise DivaugError(f"class {wanted!r} has no training image to draw a feature card of")
    return names.index(wanted)


def remarks(train: Embeddings, tables: dict[str, Any]) -> list[str]:
    """Return what a reader of the tables must know: saturation, negative features, classes that are too small."""
    notes = []
    rarefied = tables["rarefaction"]
    full = rarefied[(rarefied["saturated"] == True) & (rarefied["split"] == "train")]  # noqa: E712  a column with NaN
    for m, rows in full.groupby("m"):
        notes.append(
            f"Saturated at m = {m:.0f}: {len(rows)} of {train.num_classes} classes use more than "
            f"{100 * SATURATED:.0f} % of the ceiling {rows['ceiling'].iloc[0]:.0f}; little can be compared there."
        )
    if not train.nonnegative:
        notes.append(
            "Features can be negative here. A contribution > 0 may then be a negative feature with a negative weight; "
            "the number of CE is no longer bounded by the positive weights of a class; and masking a feature does not "
            "mean that its evidence is absent."
        )
    small = [train.class_names[c] for c in range(train.num_classes) if 0 < train.counts[c] < 5]
    if small:
        said = ", ".join(map(plain, small))
        notes.append(f"Fewer than five training images: {said}. Their rarefied numbers at m = 5 are undefined.")
    notes.append("The authors' code calls a class's missed images its \"false positives\"; here they are group FN.")
    return notes


def _figures(
    folder: Path, train: Embeddings, test: Embeddings, tables: dict[str, Any], k: int
) -> list[tuple[Path, str]]:
    order = [int(c) for c in np.argsort(-train.counts, kind="stable") if train.counts[c]]
    names = [f"{train.class_names[c]} ({train.counts[c]})" for c in order]
    group = "member"
    found = [class_statistics(train, c, k=ADAPTIVE if train.has_head else k, group=group) for c in order]
    frequency, magnitude = (np.stack([getattr(f, name) for f in found]) for name in ("frequency", "magnitude"))
    figures = [
        (plots.heat_map(folder / "frequency.png", frequency, names, "share of images that need the feature"),
         "Frequency: which features the classes' images use (adaptive top-K CE of training images)."),
        (plots.heat_map(folder / "magnitude.png", magnitude, names, "mean classification embedding"),
         "Magnitude: mean CE of every feature over a class's training images."),
    ]  # fmt: skip

    def lines(measure: str) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
        table = tables["curves"]
        by_class = dict(iter(table[table["measure"] == measure].groupby("class")))
        return [
            (name, train.terciles[c], by_class[c]["x"].to_numpy(), by_class[c]["value"].to_numpy())
            for c, name in zip(order, names, strict=True)
        ]

    figures += [
        (plots.curves(folder / "k_curve.png", lines("k_curve"), x="K", y="distinct features in top-K sets",
                      title=f"K-curves (raw; D = {train.dimensions})", log=True),
         "K-curves: distinct features over K. Raw numbers: larger classes have more images to show them."),
        (plots.curves(folder / "rarefaction.png", lines("rarefaction_curve"), x="training images drawn (m)",
                      y=f"distinct top-{k} CE expected", title="Rarefaction: features at equal size", log=True),
         "Rarefaction: compare the classes' heights at the same m, not the ends of their curves."),
    ]  # fmt: skip
    tops = [class_top_k(f.magnitude, k) for f in found]
    pair = []
    for bundle in (train, test):
        rows = [bundle.rows(c) for c in order]
        nothing = np.full(k, np.nan)
        pair.append(
            np.stack([
                bundle.contributions(r).mean(0)[top] if len(r) else nothing for r, top in zip(rows, tops, strict=True)
            ])
        )  # fmt: skip
    gap = tables["gaps"]
    by_class = gap[gap["group"] == "member"].pivot_table(
        index="class", columns="measure", values=["value", "low", "high", "null"]
    )
    by_class = by_class.reindex(order)
    fair = np.column_stack([by_class[(part, "gap_matched")] for part in ("value", "low", "high")])
    across = folder / "train_test.png"
    plots.train_against_test(across, pair[0], pair[1], names=names, what="mean CE of the class's top-K")
    gap_figure = folder / "gap.png"
    raw, null = by_class[("value", "gap_raw")].to_numpy(), by_class[("null", "gap_matched")].to_numpy()
    plots.gaps(gap_figure, raw=raw, fair=fair, null=null, names=names)
    return [
        *figures,
        (across, "Train against test: below the line, a top feature is smaller in test images (all members)."),
        (gap_figure, "Generalisation gap: raw, and at equal numbers of training and test images."),
    ]


def draw_feature_card(path: Path, model: Any, data: Data, train: Embeddings, c: int, k: int) -> Path:
    """Draw a class's top features, with the training images of the class that use each most and where they use it.

    The activation map is the last output ``(B, D, h, w)`` of any module of the backbone: the one that is pooled.
    """
    rows = train.rows(c)
    contributions = train.contributions(rows)
    top = class_top_k(contributions.mean(0), k)[:CARD_FEATURES]
    maps: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(lambda _, __, out: maps.append(out) if torch.is_tensor(out) else None)
        for module in model.backbone.modules()  # an outer block's hook runs last, so the last map is its own
    ]
    pictures, heats, titles = [], [], []
    try:
        for d in top:
            chosen = rows[np.argsort(-contributions[:, d], kind="stable")[:CARD_IMAGES]]
            part = data.train.take(chosen)
            images, _ = next(iter(loader_of(data, part, torch.device("cpu")).in_order()))
            maps.clear()
            with torch.no_grad():
                model.cpu().eval().features(images)
            spatial = [
                at for at, m in enumerate(maps)
                if m.dim() == 4 and m.shape[1] == train.dimensions and m.shape[2:].numel() > 1  # not what is pooled
            ]  # fmt: skip
            tokens = [at for at, m in enumerate(maps) if m.dim() == 3]  # after them a map is of patches
            if not spatial or (tokens and tokens[-1] > spatial[-1]):
                raise DivaugError("this backbone has no activation maps (B, D, h, w): no feature card can be drawn")
            pictures.append(np.asarray(part.images[np.arange(len(chosen))]))
            heats.append(maps[spatial[-1]][:, d].clamp_min(0).numpy())
            titles.append(f"feature {d}: mean CE {contributions[:, d].mean():.2f}")
    finally:
        for handle in handles:
            handle.remove()
    return plots.feature_card(path, pictures, heats, titles, f"{train.class_names[c]} ({len(rows)} training images)")

"""All arms of one cut, trained one after another in random order, with a row for each as it ends."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import ConfigError, DataError, DivaugError, Interrupted
from divaug.base.files import exclusive, make_folder
from divaug.base.metrics import nanmean, prior_corrected, prior_corrected_predictions, roc_auc, softmax
from divaug.base.rng import stream
from divaug.config.schema import Config, keys_of_kind
from divaug.config.tables import digest, protocol_fingerprint, to_table
from divaug.data.load import Data
from divaug.data.loaders import steps_of
from divaug.data.longtail import Cut
from divaug.latent.embeddings import Embeddings
from divaug.latent.rarefaction import rarefied_number
from divaug.latent.statistics import instance_sets
from divaug.models.encoder import Encoder
from divaug.runs.embed import embed
from divaug.runs.folder import RunFolder
from divaug.runs.load import load
from divaug.runs.loop import run
from divaug.study.exchange.cut import CutImages
from divaug.study.exchange.plan import Arm, Design, Plan, read_plan
from divaug.study.exchange.rows import FAILED, OK, REFUSED, add_row, described, of_plan, read_rows, wanted
from divaug.study.exchange.slides import SlideImages, SlideSource, table_of
from divaug.study.exchange.spaces import Source
from divaug.train.build import device_name, find_device, resolve

K, RAREFIED = 10, 20  # top-K sets, rarefied to so many images


def run_block(plan: Path, prereg: str, label: str, cut: int, folder: Path, rows: Path) -> None:
    """Train what is missing of one cut's arms.

    Args:
        plan: The preregistration.
        prereg: Its hash when the study began: a plan that was edited since is refused.
        label: The design's label.
        cut: Number of the cut.
        folder: Where runs are kept; those begun there are continued.
        rows: CSV of the data set's rows.

    Raises:
        Interrupted: A signal came; the run in progress can be continued.
        ConfigError: The plan has changed.
        DataError: The images cannot be chosen, or the cut was begun with other kinds.
        DivaugError: Another process works on the cut.
    """
    read = read_plan(plan)
    if read.prereg != prereg:
        raise ConfigError(f"{plan} has changed since the study began: rows would have another hash; begin again")
    design = next(design for design in read.designs if design.label == label)
    order = stream(cut, f"order/{design.label}").permutation(list(design.arms))
    with exclusive(make_folder(rows.parent) / f".{prereg}-{label.replace('/', '-')}-{cut}.lock", wait=False):
        missing = [str(name) for name in order if wanted(read_rows(rows), read, design, str(name), cut)]
        if missing:
            _run_arms(read, design, cut, missing, folder, rows)


def _run_arms(read: Plan, design: Design, cut: int, missing: list[str], folder: Path, rows: Path) -> None:
    files = read.encoder_files(design.dataset)
    images = _images(read, design, cut, files)
    encoder = None if images.which is None else files[images.which]
    kinds = images.digest()
    before = of_plan(read_rows(rows), read, design)
    if set(before.loc[before["cut"] == cut, "kinds"]) - {"", kinds}:
        raise DataError(
            f"{design.label}: the kinds of cut {cut} are not those that it was begun with (another machine or version "
            f"of scikit-learn?); delete its rows from {rows}"
        )
    for name in missing:
        arm = design.arms[name]
        row = described(read, design, name, arm, cut) | images.measures(arm)
        row |= {"encoder": encoder.stem if encoder else "", "data": images.source.identity, "kinds": kinds}
        where = folder / read.prereg / design.label.replace("/", "-") / name / f"cut{cut}"
        if arm.dose and design.refuse and row["smd_max"] > design.refuse:
            reason = f"its images differ from the pool by {row['smd_max']:.2f} standard deviations"
            add_row(rows, row | {"status": REFUSED, "reason": reason})
            continue
        correct = None
        try:
            measured, correct = _train(read, design, arm, images, where, encoder)
            row |= measured
        except (Interrupted, ConfigError, DataError):
            raise
        except DivaugError as error:
            row |= {"status": FAILED, "reason": " ".join(str(error).split())[:200]}
            shutil.rmtree(where, ignore_errors=True)  # a repetition begins anew
        add_row(rows, row, correct)


def _images(read: Plan, design: Design, cut: int, files: list[Path]) -> CutImages | SlideImages:
    config = read.config(design, Arm(), counts=(1,), epochs=1, seed=cut)
    if design.name == "slides":
        return SlideImages(SlideSource(replace(config, path=str(table_of(design).resolve())), cut), design, cut)
    source = Source(config)
    return CutImages(source, design, cut, [Encoder.load(file).to(source.device) for file in files])


def _train(
    plan: Plan, design: Design, arm: Arm, images: CutImages | SlideImages, where: Path, encoder: Path | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Train one arm, or continue where it stopped; return what was measured and which images were recognised."""
    data = data_of(images, arm)
    plain = plan.config(design, Arm(), counts=(1,), epochs=1, seed=0)
    steps = steps_of(len(data.train.labels), plain.batch_size)
    epochs = design.epochs or max(1, round(design.steps / steps))
    counts = tuple(data.counts.tolist())
    config = plan.config(design, arm, counts=counts, epochs=epochs, seed=images.cut, encoder=encoder)
    if design.table:
        config = replace(config, path=str(table_of(design).resolve()))
    config = replace(resolve(config, data), output_dir=str(where.parents[2]))
    folder = run(config, RunFolder(where), data)
    model = load(folder).network
    outputs = np.load(folder.path / "test_outputs.npz")
    found, correct = outcome(outputs["labels"], outputs["logits"], images, data.counts)
    train = embed(model, data, "train")
    fitted = [float((train.predictions[rows] == c).mean()) for c in images.manipulated if len(rows := train.rows(c))]
    seconds = folder.result["final/total_seconds"]
    measured = {
        **found, **latent_breadth(embed(model, data, "test"), images.manipulated),
        "train_recall": float(np.mean(fitted)), "epochs": epochs, "steps": epochs * steps, "seconds": seconds,
        "selection": hashlib.sha256(data.cut.indices.astype("<i8").tobytes()).hexdigest()[:8],
        "protocol": protocol_fingerprint(config), "config": _config_digest(config), "precision": config.precision,
        "device": device_name(find_device(config.device)),
        "status": OK,
    }  # fmt: skip
    return measured, correct


def _config_digest(config: Config) -> str:
    """Return a hash of every key that a run's result depends on, the method's included."""
    table = to_table(config)
    if config.encoder is not None:
        table["encoder"] = Path(config.encoder).name  # it holds a hash of the content; folders differ
    return digest({key: value for key, value in table.items() if key not in keys_of_kind("where", "seed")})


def data_of(images: CutImages | SlideImages, arm: Arm) -> Data:
    """Return the data of one arm's run: its training images, and the outcome's part as the test part."""
    source, rows = images.source, images.training(arm)
    train = source.dataset.train.take(rows)
    counts = np.bincount(train.labels, minlength=source.dataset.num_classes)
    return Data(
        source.dataset, Cut(rows, counts, counts), train, None, images.part, counts, (), source.identity, images.cut,
        "native",
    )  # fmt: skip


def outcome(
    labels: np.ndarray, logits: np.ndarray, images: CutImages | SlideImages, counts: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Return accuracies in [0, 1], and which images of the manipulated classes were recognised, prior-corrected.

    Accuracies are of all classes, of the manipulated ones, and of these ones' kept and withheld kinds.

    Args:
        labels: Labels of the outcome's part.
        logits: Final logits.
        images: The cut.
        counts: Training images per class, copies included.
    """
    shares, tails = counts / counts.sum(), images.manipulated
    recalls, tau = prior_corrected(labels, logits, shares)
    raw = [float((logits[labels == c].argmax(1) == c).mean()) for c in range(len(counts)) if (labels == c).any()]
    heads = [c for c in range(len(counts)) if c not in tails]
    correct = prior_corrected_predictions(labels, logits, shares) == labels
    kept = images.kept()

    def recall_of(side: float) -> float:
        classes = [correct[(labels == c) & (kept == side)] for c in tails]
        return nanmean(np.array([group.mean() if len(group) else np.nan for group in classes]))

    measured = {
        "balanced_accuracy": float(np.mean(raw)),
        "prior_corrected": nanmean(recalls),
        "tail_prior_corrected": nanmean(recalls[tails]),
        "head_prior_corrected": nanmean(recalls[heads]) if heads else float("nan"),
        "tau": tau,
        "auc": nanmean(roc_auc(labels, softmax(logits))[tails]),
        "recall_kept": recall_of(1.0),
        "recall_withheld": recall_of(0.0),
    }
    return measured, correct[np.isin(labels, tails)]


def latent_breadth(held_out: Embeddings, classes: list[int]) -> dict[str, float]:
    """Return the rarefied number of top-K CE and FE on held-out images, as means over classes; NaN with too few."""
    bare = Embeddings(held_out.features, held_out.labels, held_out.class_names)  # without a head: FE
    found = {}
    for name, bundle in (("topk_ce_heldout", held_out), ("topk_fe_heldout", bare)):
        numbers = []
        for c in classes:
            rows = bundle.rows(c)
            sets = instance_sets(bundle, rows, bundle.contributions(rows), min(K, bundle.dimensions))
            numbers.append(float(rarefied_number(sets.sum(0), np.array(len(rows)), RAREFIED)))
        found[name] = nanmean(np.array(numbers))
    return found

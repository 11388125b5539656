"""One epoch's numbers: metrics of a part, latent statistics per class and per group, and the result of a run."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divaug.base.contracts import Head, Learning
from divaug.base.groups import rank_groups
from divaug.base.labels import MixedLabels
from divaug.base.metrics import (
    accuracy_under,
    brier_score,
    calibration_error,
    classwise_calibration_error,
    confusion_matrix,
    from_confusion,
    nanmean,
    precision,
    prior_corrected,
    recall,
    roc_auc,
    sensitivity_at,
    softmax,
)
from divaug.base.record import checked, find
from divaug.base.rng import stream
from divaug.latent.monitor import TopKMonitor
from divaug.train.build import Built
from divaug.train.evaluate import Evaluation
from divaug.train.step import Totals

Row = dict[str, Any]


def empty_row(epoch: int) -> Row:
    """Return an empty row of ``metrics.jsonl``."""
    return {"epoch": epoch, "metrics": {}, "per_class": {}}


def costs(built: Built) -> list[str]:
    """Describe the cost of pixel augmentation without a batched form: images per second with and without it."""
    notes, seen = [], set()
    for stage in built.stages:
        if stage.pixel.batched or id(stage.pixel) in seen:
            continue
        seen.add(id(stage.pixel))
        rows = np.arange(min(128, len(built.train.labels)))
        images, labels = built.train.take(rows), built.train.labels_of(rows)
        plan = stage.pixel.sample(labels, (images.shape[1], images.shape[2]), stream(0, "costs"))
        rates = []
        for work in (lambda: stage.pixel.apply(built.train.take(rows), plan), lambda: built.train.take(rows)):  # noqa: B023
            work()
            started = time.perf_counter()
            built.train.normalize(work())
            rates.append(len(rows) / (time.perf_counter() - started))
        learns = ", and will take longer as it learns to do more" if stage.pixel.learns else ""
        notes.append(
            f"the pixel augmentation works image by image: it makes {rates[0]:,.0f} images per second ready, "
            f"against {rates[1]:,.0f} without it (one process; --workers spreads it){learns}"
        )
    return notes


def add_training(
    row: Row, totals: Totals, *, labels: Tensor, pixel: Learning, lr: float, seconds: float, tail: np.ndarray
) -> None:
    """Add what the training loop saw: loss, accuracy, speed, and what augmentation really did.

    Per class, ``aug/*`` has: rows presented, distinct images among them (``sources``), rows whose pixels were altered
    (``augmented``), rows that another image was mixed into (``receivers``), rows that an image of the class was mixed
    into (``givers``), label mass, and label mass that feature augmentation added (``synthetic``). If partners come from
    the whole training cut, it also has the number of distinct donors (``donors``) and their effective number
    (``donors_effective``, the inverse Simpson index of their uses). Learned strengths are in ``level``.

    Args:
        row: Row to add to.
        totals: The epoch's counts.
        labels: Class of every image of the training cut.
        pixel: The pixel component, whose ``levels`` are noted if it learns any.
        lr: Learning rate of the last step.
        seconds: Duration of the epoch.
        tail: Classes of the tail group.
    """
    totals = totals.to("cpu")
    rows, num_classes = totals.rows, len(totals.seen)
    by_class = {
        "rows": totals.seen,
        "sources": torch.bincount(labels[totals.visits > 0], minlength=num_classes),
        "augmented": totals.augmented,
        "receivers": totals.receivers,
        "givers": totals.givers,
        "label_mass": totals.mass,
        "synthetic": totals.synthetic,
    }
    scalars = {
        "train/loss": totals.loss.item() / rows,
        "train/acc": totals.correct.item() / rows,
        "train/lr": lr,
        "train/seconds": seconds,
        "train/img_per_s": rows / seconds,
        "aug/augmented_frac": float(totals.augmented.sum() / rows),
        "aug/mixed_frac": float(totals.receivers.sum() / rows),
        "aug/synthetic_frac": float(totals.synthetic.sum() / rows),
        "aug/rows_tail_frac": float(totals.seen[tail].sum() / rows),
        "aug/mass_tail_frac": float(totals.mass[tail].sum() / totals.mass.sum()),
        "aug/givers_tail_frac": float(totals.givers[tail].sum() / max(1, int(totals.givers.sum()))),
    }
    if pixel.learns:
        by_class["level"] = torch.from_numpy(pixel.levels)
    if (uses := totals.donations.double()).any():
        squares = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, labels, uses**2)
        sums = torch.zeros(num_classes, dtype=torch.float64).index_add_(0, labels, uses)
        by_class["donors"] = torch.bincount(labels[uses > 0], minlength=num_classes)
        by_class["donors_effective"] = torch.where(squares > 0, sums**2 / squares.clamp_min(1), 0.0)
        scalars["aug/donors_effective"] = float(uses.sum() ** 2 / (uses**2).sum())
    row["metrics"] |= checked(scalars)
    row["per_class"] |= checked({f"aug/{name}": values.tolist() for name, values in by_class.items()}, per_class=True)


def add_part(row: Row, prefix: str, outputs: Evaluation, group_counts: np.ndarray, cut_counts: np.ndarray) -> None:
    """Add the metrics of a part ("test", "val"): groups by one count of images, shares of classes by the cut's own."""
    num_classes = outputs.logits.shape[1]
    matrix = confusion_matrix(outputs.labels, outputs.logits.argmax(1), num_classes)
    probabilities = softmax(outputs.logits)
    recalls, shares = recall(matrix), cut_counts / cut_counts.sum()
    order = np.argsort(shares, kind="stable")
    turned = np.empty_like(shares)
    turned[order] = shares[order[::-1]]
    found = sensitivity_at(outputs.labels, probabilities)
    errors = classwise_calibration_error(outputs.labels, probabilities)
    scalars = from_confusion(matrix, group_counts) | {
        "predicted_classes": int((matrix.sum(0) > 0).sum()),
        "roc_auc": nanmean(roc_auc(outputs.labels, probabilities)),
        "ece": calibration_error(outputs.labels, probabilities),
        "classwise_ece": float(errors.mean()),
        "brier": brier_score(outputs.labels, probabilities),
        "sensitivity_at_95": nanmean(found),
        "acc_as_trained": accuracy_under(recalls, shares),
        "acc_reversed": accuracy_under(recalls, turned),
    }
    by_class = {
        f"{prefix}/recall": recalls.tolist(), f"{prefix}/precision": precision(matrix).tolist(),
        f"{prefix}/sensitivity_at_95": found.tolist(), f"{prefix}/calibration_error": errors.tolist(),
    }  # fmt: skip
    row["metrics"] |= checked({f"{prefix}/{name}": value for name, value in scalars.items()})
    row["per_class"] |= checked(by_class, per_class=True)


def add_prior_corrected(
    row: Row, prefix: str, outputs: Evaluation, cut_counts: np.ndarray, group_counts: np.ndarray
) -> None:
    """Add the prior-corrected recall of every class, group and all classes; see ``metrics.prior_corrected``."""
    recalls, tau = prior_corrected(outputs.labels, outputs.logits, cut_counts / cut_counts.sum())
    groups = {f"acc_{group}": nanmean(recalls[classes]) for group, classes in rank_groups(group_counts).items()}
    scalars = {"bal_acc": nanmean(recalls), **groups, "tau": tau}
    row["metrics"] |= checked({f"{prefix}/prior_corrected_{name}": value for name, value in scalars.items()})
    row["per_class"] |= checked({f"{prefix}/prior_corrected_recall": recalls.tolist()}, per_class=True)


def add_fit(row: Row, clean: Evaluation, group_counts: np.ndarray) -> None:
    """Add the recall over unaugmented training images: of every class, group, and all classes."""
    recalls = recall(confusion_matrix(clean.labels, clean.logits.argmax(1), clean.logits.shape[1]))
    groups = {f"acc_{group}": nanmean(recalls[classes]) for group, classes in rank_groups(group_counts).items()}
    scalars = {"bal_acc": nanmean(recalls), **groups}
    row["metrics"] |= checked({f"train_clean/{name}": value for name, value in scalars.items()})
    row["per_class"] |= checked({"train_clean/recall": recalls.tolist()}, per_class=True)


def add_latent(row: Row, prefix: str, statistics: Mapping[str, np.ndarray], group_counts: np.ndarray) -> None:
    """Add latent statistics: per class, and as means over head, mid and tail."""
    for name, values in statistics.items():
        known = np.asarray(values, dtype=np.float64)
        row["per_class"] |= checked({f"{prefix}/{name}": known.tolist()}, per_class=True)
        if find(f"{prefix}/{name}", per_class=True).scalar:
            means = {group: nanmean(known[classes]) for group, classes in rank_groups(group_counts).items()}
            row["metrics"] |= checked({f"{prefix}/{name}_{group}": mean for group, mean in means.items()})


def growth(statistics: Mapping[str, np.ndarray], first: Row | None) -> dict[str, np.ndarray]:
    """Return how much the top-K sets of the views have grown since the first epoch, per class.

    ``growth`` is of the raw number, which also depends on the number of views; ``growth_rarefied_M`` is at equal size.
    """
    grown = {}
    for name, now in statistics.items():
        if name == "number" or (name.startswith("rarefied_") and not name.endswith("_mixed")):
            then = now if first is None else np.array(first["per_class"][f"views/{name}"], dtype=np.float64)
            grown["growth" if name == "number" else f"growth_{name}"] = now - then
    return grown


def clean_statistics(
    outputs: Evaluation, head: Head, monitor: TopKMonitor, batch_size: int = 4096
) -> dict[str, np.ndarray]:
    """Measure unaugmented images from their embeddings with the settings of ``monitor``, which is not changed."""
    feature_dim = outputs.embeddings.shape[1]
    clean = TopKMonitor(monitor.num_classes, feature_dim, k=monitor.ks, sizes=monitor.sizes)
    device = head.weight.device
    for start in range(0, len(outputs.labels), batch_size):
        z = torch.from_numpy(outputs.embeddings[start : start + batch_size]).to(device)
        labels = torch.from_numpy(outputs.labels[start : start + batch_size]).to(device)
        clean.update(z, MixedLabels.hard(labels), head)
    return clean.compute()


def add_common_space(row: Row, built: Built, group_counts: np.ndarray) -> None:
    """Add the statistics in the common encoder's space: of the epoch's views and of clean training and test images."""
    assert built.space is not None
    add_latent(row, "encoder_views", built.space.monitor.compute(), group_counts)
    for name, loader in (("train", built.train), ("test", built.test)):
        add_latent(row, f"encoder_{name}_clean", built.space.clean(name, loader.in_order), group_counts)
    built.space.monitor.reset()


def final_result(rows: list[Row], feature_dim: int, trained_parameters: int) -> dict[str, float]:
    """Return a run's result: the last epoch's numbers.

    Nothing is selected on the test part; ``best_on_test/bal_acc`` is included because papers report it.
    """
    last = {name: value for name, value in rows[-1]["metrics"].items() if not name.startswith(("train/", "aug/"))}
    evaluated = [row["metrics"] for row in rows if "test/bal_acc" in row["metrics"]]
    return checked({
        **{f"final/{name.replace('/', '_')}": value for name, value in last.items()},
        "final/feature_dim": feature_dim,
        "final/trained_parameters": trained_parameters,
        "best_on_test/acc": max(row["test/acc"] for row in evaluated),
        "best_on_test/bal_acc": max(row["test/bal_acc"] for row in evaluated),
        "final/train_seconds": sum(row["metrics"]["train/seconds"] for row in rows),
        "final/total_seconds": sum(row["metrics"]["train/epoch_seconds"] for row in rows),
    })  # fmt: skip

"""A finished run with new heads, each trained on its over-sampled training embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from divaug.base.files import make_folder, write_tensors, write_text
from divaug.base.metrics import confusion_matrix, from_confusion, nanmean, prior_corrected, recall
from divaug.base.rng import stream
from divaug.data.load import Data, load_data
from divaug.latent.embeddings import Embeddings
from divaug.models.network import Network
from divaug.posthoc.head import train_head
from divaug.posthoc.oversample import METHODS
from divaug.runs.embed import embed
from divaug.runs.folder import RunFolder
from divaug.runs.load import load
from divaug.train.build import build_model


@dataclass(frozen=True)
class NewHead:
    """Results of a run's network with one head.

    Attributes:
        label: The head's name: "as trained", or that of its over-sampling.
        accuracies: Test accuracies by name, as in training.
        recalls: Test recall by class.
        synthetic: How many synthetic embeddings it was trained on.
        fewest_bases: From how many different images the synthetic embeddings start, in the class with the fewest;
            None if there are none.
        notes: Sentences about classes that got no synthetic embeddings.
    """

    label: str
    accuracies: dict[str, float]
    recalls: dict[str, float]
    synthetic: int = 0
    fewest_bases: int | None = None
    notes: list[str] = field(default_factory=list)


def new_heads(
    folder: RunFolder, methods: Mapping[str, str], *, neighbours: int, head_epochs: int, head_lr: float
) -> Iterator[NewHead]:
    """Yield the network as trained, then with each new head; write ``posthoc/<label>.pt`` into the run's folder.

    Args:
        folder: A finished run.
        methods: Over-sampling (none, ros, smote, eos) by label.
        neighbours: Nearest neighbours of smote and eos, >= 1.
        head_epochs: Epochs of a new head, >= 1.
        head_lr: Its initial learning rate, > 0.
    """
    config, names = folder.config, folder.manifest["class_names"]
    data = load_data(config)
    network = load(folder).network
    train, test = embed(network, data, "train"), embed(network, data, "test")
    yield NewHead("as trained", *_measure(network, test, data))
    counts = np.bincount(train.labels, minlength=len(names))
    smaller = np.flatnonzero((counts > 0) & (counts < counts.max()))
    out = make_folder(folder.path / "posthoc")
    for label, name in methods.items():
        network.head = build_model(config, folder.manifest).head  # new weights, not the run's
        rng = stream(config.seed, f"posthoc/{name}")
        synthetic, classes, base = METHODS[name](train.features, train.labels, neighbours=neighbours, rng=rng)
        features, labels = np.concatenate([train.features, synthetic]), np.concatenate([train.labels, classes])
        train_head(network.head, features, labels, epochs=head_epochs, lr=head_lr, seed=config.seed)
        write_tensors(out / f"{label}.pt", network.state_dict())
        bases = {int(c): len(np.unique(base[classes == c])) for c in smaller} if name != "none" else {}
        notes = [
            f"{name}: class {names[c]!r} got no synthetic embeddings: none of its {counts[c]} images has "
            f"one of another class among its {neighbours} nearest neighbours; more --neighbours may find some"
            for c, number in bases.items()
            if not number
        ]
        fewest = min(bases.values(), default=None)
        yield NewHead(label, *_measure(network, test, data), len(classes), fewest, notes)


def _measure(network: Network, test: Embeddings, data: Data) -> tuple[dict[str, float], dict[str, float]]:
    """Return a head's accuracies on the test embeddings, and its recall of each class."""
    with torch.no_grad():
        logits = network.head(torch.from_numpy(test.features)).numpy()
    matrix = confusion_matrix(test.labels, logits.argmax(1), logits.shape[1])
    corrected, _ = prior_corrected(test.labels, logits, data.cut.counts / data.cut.counts.sum())
    found = {**from_confusion(matrix, data.cut.group_counts), "prior_corrected_bal_acc": nanmean(corrected)}
    return found, dict(zip(data.dataset.class_names, recall(matrix).tolist(), strict=True))


def keep_rows(folder: RunFolder, heads: Sequence[NewHead]) -> Any:
    """Write the heads into ``posthoc/results.csv``, beside those of earlier calls; return the heads as a DataFrame."""
    import pandas as pd

    file = make_folder(folder.path / "posthoc") / "results.csv"
    table: Any = pd.DataFrame([
        {"head": head.label, "synthetic": head.synthetic, "fewest_bases": head.fewest_bases, **head.accuracies}
        for head in heads
    ])  # fmt: skip
    kept: Any = pd.read_csv(file) if file.exists() else table[:0]
    kept = kept[~kept["head"].isin(table["head"])]  # of other methods or options
    write_text(file, pd.concat([kept, table]).to_csv(index=False, float_format="%.6g"))
    return table

"""A finished run with new heads, each fitted to its training embeddings, and rows of what needs no head at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from divaug.base.errors import ConfigError
from divaug.base.files import make_folder, write_text
from divaug.base.metrics import confusion_matrix, from_confusion, nanmean, prior_corrected, recall
from divaug.base.rng import stream
from divaug.config.registry import POSTHOC
from divaug.config.schema import Component
from divaug.data.load import Data
from divaug.latent.embeddings import Embeddings
from divaug.models.heads import LinearHead
from divaug.runs.embed import embed
from divaug.runs.folder import RunFolder
from divaug.runs.load import data_of, load
from divaug.runs.model_folder import save_model
from divaug.train.build import build_model
from divaug.train.threads import one_thread

NEIGHBOURS = (1, 10)
AS_TRAINED = "as trained"


@dataclass(frozen=True)
class NewHead:
    """Results of a run's network with one head, or of a rule on its embeddings.

    Attributes:
        label: The head's name: "as trained", or that of its method.
        accuracies: Test accuracies by name, as in training; without logits the prior-corrected one is NaN.
        recalls: Test recall by class.
        synthetic: How many synthetic embeddings it was trained on.
        fewest_bases: From how many different images the synthetic embeddings start, in the class with the fewest;
            None if there are none.
        notes: Sentences: classes that got no synthetic embeddings, how a hyperparameter was chosen.
    """

    label: str
    accuracies: dict[str, float]
    recalls: dict[str, float]
    synthetic: int = 0
    fewest_bases: int | None = None
    notes: list[str] = field(default_factory=list)


def new_heads(folder: RunFolder, methods: Mapping[str, Component], *, rules: bool = True) -> Iterator[NewHead]:
    """Yield the network as trained, then with each new head, written as a model into ``posthoc/<label>``.

    Args:
        folder: A finished run.
        methods: Components of the family ``posthoc`` by label.
        rules: Yield the majority class and nearest neighbours too.
    """
    config = folder.config
    data, model = data_of(folder), load(folder)
    network = model.network
    train, test = embed(network, data, "train"), embed(network, data, "test")
    validation = None if data.val is None else embed(network, data, "val")
    trained, shares = network.head, data.cut.counts / data.cut.counts.sum()
    yield NewHead(AS_TRAINED, *_measure(trained, test, data))
    for label, method in methods.items():
        facts = {
            "seed": config.seed, "validation": validation,
            "new_head": lambda: build_model(config, folder.manifest).head,  # new weights, not the run's
        }  # fmt: skip
        component = POSTHOC.build(method.name, facts=facts, **method.options)
        try:
            with one_thread():  # thousands of steps on a few rows: several threads would wait for one another
                head: Any = component.fit(train, trained, stream(config.seed, f"posthoc/{method.name}"))
        except ConfigError as error:  # it needs another head than the run's; the others do not
            yield NewHead(label, *_undefined(data), notes=[f"{label}: left out: {error}"])
            continue
        network.head = head
        kind = Component("linear") if isinstance(head, LinearHead) else config.head
        card = {"run": folder.label, "head": label, "images": len(train.labels)}
        save_model(make_folder(folder.path / "posthoc" / label), model, config, head=kind, card=card)
        network.head = trained
        more = {key: getattr(component, key) for key in ("synthetic", "fewest_bases") if hasattr(component, key)}
        yield NewHead(label, *_measure(head, test, data), notes=list(getattr(component, "notes", ())), **more)
    if rules:
        yield NewHead("majority", *_of(np.full(len(test.labels), int(shares.argmax())), test, data))
        for k in NEIGHBOURS:
            if k <= len(train.labels):
                yield NewHead(f"{k}-nn", *_of(_nearest(train, test, k), test, data))


def _nearest(train: Embeddings, test: Embeddings, k: int) -> np.ndarray:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(k).fit(train.features, train.labels).predict(test.features)


def _of(predictions: np.ndarray, test: Embeddings, data: Data) -> tuple[dict[str, float], dict[str, float]]:
    """Return the accuracies of predictions without logits."""
    matrix = confusion_matrix(test.labels, predictions, data.dataset.num_classes)
    found = {**from_confusion(matrix, data.cut.group_counts), "prior_corrected_bal_acc": float("nan")}
    found["predicted_classes"] = float((matrix.sum(0) > 0).sum())
    return found, dict(zip(data.dataset.class_names, recall(matrix).tolist(), strict=True))


def _undefined(data: Data) -> tuple[dict[str, float], dict[str, float]]:
    names = data.dataset.class_names
    any_matrix = np.eye(len(names), dtype=np.int64)  # for the names of the metrics
    keys = *from_confusion(any_matrix, data.cut.group_counts), "prior_corrected_bal_acc", "predicted_classes"
    found = dict.fromkeys(keys, float("nan"))
    return found, dict.fromkeys(names, float("nan"))


def _measure(head: Any, test: Embeddings, data: Data) -> tuple[dict[str, float], dict[str, float]]:
    """Return a head's accuracies on the test embeddings, and its recall of each class."""
    with torch.no_grad():
        logits = head(torch.from_numpy(test.features)).numpy()
    found, recalls = _of(logits.argmax(1), test, data)
    corrected, _ = prior_corrected(test.labels, logits, data.cut.counts / data.cut.counts.sum())
    return {**found, "prior_corrected_bal_acc": nanmean(corrected)}, recalls


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

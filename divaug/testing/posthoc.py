"""The contract of the family ``posthoc``."""

import copy
from typing import Any

import numpy as np
import torch

from divaug.latent.embeddings import Embeddings
from divaug.testing.kit import Subject, demand


def _training(subject: Subject) -> Embeddings:
    labels = subject.facts["labels"].numpy()
    rng = np.random.default_rng(0)
    centres = 2 * rng.random((subject.facts["num_classes"], subject.facts["feature_dim"]))
    features = np.maximum(centres[labels] + 0.3 * rng.normal(size=(len(labels), centres.shape[1])), 0)
    return Embeddings(features.astype(np.float32), labels, tuple(subject.facts["class_names"]))


def new_head(subject: Subject) -> str:
    train, trained = _training(subject), subject.facts["new_head"]()
    before, features = copy.deepcopy(trained.state_dict()), train.features.copy()
    head: Any = subject.make().fit(train, trained, np.random.default_rng(1))
    demand(head is not trained, "returns the head that it was given, which must stay as it is")
    same = all(torch.equal(before[key], value) for key, value in trained.state_dict().items())
    demand(same and (train.features == features).all(), "changes the head or the embeddings that it was given")
    with torch.no_grad():
        logits = head(torch.from_numpy(features))
    wanted = (len(features), subject.facts["num_classes"])
    demand(tuple(logits.shape) == wanted, f"its head returns {tuple(logits.shape)} instead of {wanted}")
    demand(torch.isfinite(logits).all(), "its head returns logits that are not finite")
    return f"a new head; logits {wanted}, finite"


def repeats(subject: Subject) -> str:
    train, trained = _training(subject), subject.facts["new_head"]()
    heads: list[Any] = []
    for _ in range(2):
        torch.manual_seed(0)  # of new weights
        heads.append(subject.make().fit(train, trained, np.random.default_rng(1)))
    states = [head.state_dict() for head in heads]
    demand(all(torch.equal(states[0][key], states[1][key]) for key in states[0]), "two fits from one seed differ")
    demand(isinstance(subject.make().notes, list), "has no list of notes")
    return "equal seeds give equal heads; notes"


CHECKS = (new_head, repeats)

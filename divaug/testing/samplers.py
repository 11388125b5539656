"""The contract of the family ``samplers``."""

import pickle

import torch

from divaug.testing.kit import SIGMAS, Subject, demand, rng

EPOCHS = 200


def positions(subject: Subject) -> str:
    sampler, images = subject.make(), len(subject.facts["labels"])
    for progress in (0.0, 0.5, 0.99):
        drawn = sampler.draw(rng(1), progress)
        demand(torch.is_tensor(drawn), f"draw returns {type(drawn).__name__} instead of a tensor")
        demand(drawn.dtype == torch.int64 and drawn.ndim == 1, f"draw returns {drawn.dtype} {tuple(drawn.shape)}")
        demand(len(drawn) == images, f"draws {len(drawn)} images of {images}: every sampler must cost the same steps")
        demand(((drawn >= 0) & (drawn < images)).all(), "an index is outside the training cut")
    return "int64, within the training cut, one per image"


def replay(subject: Subject) -> str:
    sampler = pickle.loads(pickle.dumps(subject.make()))
    demand(torch.equal(sampler.draw(rng(2), 0.0), sampler.draw(rng(2), 0.0)), "equal generators give different draws")
    demand(not torch.equal(sampler.draw(rng(2), 0.0), sampler.draw(rng(3), 0.0)), "two epochs get the same draws")
    return "equal draws for equal generators, after pickling too; epochs differ"


def declared_shares(subject: Subject) -> str:
    sampler, labels, classes = subject.make(), subject.facts["labels"], subject.facts["num_classes"]
    declared = sampler.class_probs(0.0)
    demand(declared.shape == (classes,), f"class_probs returns {tuple(declared.shape)} for {classes} classes")
    demand((declared >= 0).all() and abs(declared.sum().item() - 1) < 1e-4, "class_probs must be >= 0 and sum to 1")
    seen = torch.zeros(classes, dtype=torch.float64)
    for number in range(EPOCHS):
        seen += torch.bincount(labels[sampler.draw(rng(10 + number), 0.0)], minlength=classes)
    draws = EPOCHS * len(labels)
    # Independent draws vary most; an image more or less at the end of every epoch is allowed too.
    slack = SIGMAS * (draws * declared * (1 - declared)).sqrt() + EPOCHS
    wrong = (seen - draws * declared).abs() > slack
    if wrong.any():
        c = int(wrong.nonzero()[0])
        demand(False, f"class {c} has {seen[c] / draws:.3f} of the draws, but class_probs says {declared[c]:.3f}")
    return f"class_probs holds; the smallest class has {100 * declared.min():.1f} % of the draws"


CHECKS = (positions, replay, declared_shares)

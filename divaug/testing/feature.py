"""The contract of the family ``feature``."""

import copy
import pickle
from collections.abc import Iterator

import torch
from torch import Tensor

from divaug.base.labels import MixedLabels
from divaug.testing.kit import Subject, demand, rng, speed


def _batches(subject: Subject, rows: int, steps: int) -> Iterator[tuple[Tensor, MixedLabels]]:
    generator = torch.Generator().manual_seed(rows)
    for _ in range(steps):
        z = torch.randn(rows, subject.facts["feature_dim"], generator=generator).relu()
        labels = torch.randint(0, subject.facts["num_classes"], (rows,), generator=generator)
        yield z, MixedLabels.hard(labels)


def shape_and_labels(subject: Subject) -> str:
    added = 0
    for rows in (1, 2, 7):
        feature = subject.make()
        for step, (z, target) in enumerate(_batches(subject, rows, 12)):
            out, labels = feature(z, target, rng(step))
            demand(out.shape[1] == z.shape[1] and len(out) >= rows, f"returns {tuple(out.shape)} for {tuple(z.shape)}")
            demand(len(labels.ids) == len(labels.weights) == len(out), "must return as many labels as rows")
            demand(torch.isfinite(out).all(), "an embedding is not finite")
            demand((labels.weights >= 0).all(), "a label weight is negative")
            inside = (labels.ids >= 0) & (labels.ids < subject.facts["num_classes"])
            demand(inside.all(), "a label is not a class")
            demand((labels.weights.sum(1) - 1).abs().max() < 1e-5, "label weights of a row must sum to 1")
            demand(torch.equal(labels.ids[:rows, 0], target.ids[:, 0]), "the batch's rows must come first, in order")
            added += len(out) - rows
    return f"B = 1, 2, 7; {added} rows added in 36 batches"


def gradient(subject: Subject) -> str:
    feature = subject.make()
    for step, (z, target) in enumerate(_batches(subject, 8, 5)):
        leaf = z.requires_grad_()
        out, _ = feature(leaf, target, rng(step))
        demand(out.requires_grad, "the gradient to z is cut off")
        out.square().sum().backward()
        demand(leaf.grad is not None and torch.isfinite(leaf.grad).all(), "the gradient to z is missing or not finite")
    return "to z, finite"


def identity_in_evaluation(subject: Subject) -> str:
    feature = subject.make()
    for step, (z, target) in enumerate(_batches(subject, 8, 3)):
        feature(z, target, rng(step))
    feature.eval()
    state = copy.deepcopy(feature.state_dict())
    z, target = next(_batches(subject, 8, 1))
    out, labels = feature(z, target, rng(9))
    demand(torch.equal(out, z) and torch.equal(labels.ids, target.ids), "changes embeddings in eval()")
    same = all(torch.equal(state[k], v) for k, v in feature.state_dict().items())
    demand(same, "changes its statistics in eval()")
    return "eval() leaves embeddings and statistics alone"


def state(subject: Subject) -> str:
    one, other = subject.make(), subject.make()
    batches = list(_batches(subject, 8, 6))
    for step, (z, target) in enumerate(batches[:-1]):
        one(z, target, rng(step))
    other.load_state_dict(pickle.loads(pickle.dumps(one.state_dict())))
    tensors = [k for k, v in vars(one).items() if isinstance(v, Tensor)]
    demand(not tensors, f"{tensors} are not buffers: a resumed run would lose them")
    z, target = batches[-1]
    before = z.clone()
    outs = [module(z, target, rng(99))[0] for module in (one, other)]
    demand(torch.equal(outs[0], outs[1]), "does not continue from its state_dict: something is kept outside buffers")
    demand(torch.equal(z, before), "modifies its input embeddings")
    return "continues from its state_dict, bit-equal"


def effect(subject: Subject) -> str:
    feature, moved, added = subject.make(), 0, 0
    for step, (z, target) in enumerate(_batches(subject, 16, 20)):
        out, _ = feature(z, target, rng(step))
        moved += int((out[:16] != z).any(1).sum())
        added += len(out) - 16
    if subject.idle:
        return "does nothing, as its name says"
    demand(moved or added, "neither moves nor adds a row in 20 batches")
    return f"{100 * moved / 320:.0f} % of rows moved, {added / 320:.2f} rows added per row"


def throughput(subject: Subject) -> str:
    feature = subject.make()
    z, target = next(_batches(subject, 128, 1))
    return f"{speed(lambda: feature(z, target, rng(1)), 128):,.0f} embeddings per second (D = {z.shape[1]})"


CHECKS = (
    shape_and_labels, gradient, identity_in_evaluation, state, effect,
    throughput,
)  # fmt: skip

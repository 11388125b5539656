"""The contract of the family ``mix``."""

import pickle
from typing import Any

import torch
from torch import Tensor

from divaug.base.contracts import Donors, WholeMix, complete
from divaug.base.labels import MixedLabels
from divaug.testing.kit import SIGMAS, Subject, demand, pictures, rng, speed


def _mixed(mix: WholeMix, images: Tensor, labels: Tensor, number: int, of_class: Any = None) -> tuple[Tensor, Any, Any]:
    """Mix a batch; donors are images like the batch's, or made for their labels by ``of_class``."""
    draws, donors = rng(number), None
    if (index := mix.donors(labels, draws)) is not None:
        donor_labels = of_class[0][index] if of_class else labels[index % len(labels)]
        pictures = of_class[1](donor_labels) if of_class else images[index % len(labels)]
        own = (index % len(labels) == torch.arange(len(labels))) & (of_class is None)
        donors = Donors(pictures, donor_labels, index.numpy(), own.numpy())
    plan = mix.sample(labels, (images.shape[2], images.shape[3]), draws)
    out, target = mix.apply(images, labels, plan, donors)
    return out, target, (plan, donors)


def _floats(rows: int, height: int = 12, width: int = 9) -> Tensor:
    return pictures(rows, height, width, 3).permute(0, 3, 1, 2).float() / 255


def shape_and_type(subject: Subject) -> str:
    mix = subject.make()
    for rows in (1, 2, 7):
        for kind in (torch.float32, torch.bfloat16):
            images = _floats(rows).to(kind)
            for number in range(6):
                out, target, _ = _mixed(mix, images, subject.labels(rows), number)
                demand(out.shape == images.shape, f"returns images {tuple(out.shape)} for {tuple(images.shape)}")
                demand(out.dtype == kind, f"turns {kind} images into {out.dtype}")
                demand(isinstance(target, MixedLabels), f"returns labels of type {type(target).__name__}")
                demand(target.weights.dtype == torch.float32, f"label weights are {target.weights.dtype}")
                demand(
                    target.ids.shape == target.weights.shape == (rows, target.ids.shape[1]),
                    "ids and weights of labels differ in shape",
                )
    return "B = 1, 2, 7; float32 and bfloat16; label weights float32"


def label_weights(subject: Subject) -> str:
    mix = subject.make()
    num_classes = subject.facts["num_classes"]
    for number in range(40):
        _, target, _ = _mixed(mix, _floats(7), subject.labels(7), number)
        demand((target.weights >= 0).all(), "a label weight is negative")
        worst = (target.weights.sum(1) - 1).abs().max().item()
        demand(worst < 1e-5, f"label weights of a row sum to {1 + worst:.4g} instead of 1")
        demand(((target.ids >= 0) & (target.ids < num_classes)).all(), "a label is not a class")
    return ">= 0, summing to 1 in every row"


def weights_are_shares(subject: Subject) -> str:
    """If pixels of class c are c + 1 and weights are shares, a row's mean is the sum of label weights times c + 1."""
    mix, worst = subject.make(), 0.0

    def flat(labels: Tensor) -> Tensor:
        return (labels + 1.0)[:, None, None, None].expand(-1, 3, 12, 9).contiguous()

    for number in range(60):
        labels = subject.labels(8)
        out, target, _ = _mixed(mix, flat(labels), labels, number, (subject.facts["labels"], flat))
        stated = (target.weights * (target.ids + 1)).sum(1)
        worst = max(worst, (out.mean((1, 2, 3)) - stated).abs().max().item())
    if worst > 1e-4 * subject.facts["num_classes"]:
        return "note: label weights are not the shares of pixels or values; is this intended?"
    return "label weights are the shares of pixels or values"


def replays(subject: Subject) -> str:
    mix = complete(pickle.loads(pickle.dumps(subject.make())))
    images, labels = _floats(6).contiguous(), subject.labels(6)
    before = images.clone(), labels.clone()
    # a step in which something is mixed, if there is one
    changes = (n for n in range(100) if not torch.equal(_mixed(mix, images, labels, n)[0], images))
    number = next(changes, 0)
    out, target, (plan, donors) = _mixed(mix, images, labels, number)
    again, again_target = mix.apply(images, labels, pickle.loads(pickle.dumps(plan)), donors)
    same = torch.equal(out, again) and torch.equal(target.weights, again_target.weights)
    demand(same, "the same plan gives different images: apply must be a pure function of the draw")
    demand(torch.equal(out, _mixed(mix, images, labels, number)[0]), "equal generators give different plans")
    demand(torch.equal(images, before[0]) and torch.equal(labels, before[1]), "modifies its inputs")
    strided, _ = mix.apply(images.contiguous(memory_format=torch.channels_last), labels, plan, donors)
    demand(torch.allclose(out, strided, atol=1e-6), "depends on the memory layout of the images")
    return "plans replay, after pickling too; inputs untouched"


def steps_differ_and_rate(subject: Subject) -> str:
    mix, images, labels, steps = subject.make(), _floats(8, 64, 64), subject.labels(8), 300
    outs, rates = [], []
    for number in range(steps):
        out, target, _ = _mixed(mix, images, labels, number)
        outs.append(out)
        rates.append(target.is_mixed().float().mean().item())
    touched = [out for out in outs if not torch.equal(out, images)]
    if subject.idle:
        return "does nothing, as its name says"
    demand(touched, f"no image of {steps} batches is changed")
    demand(any(not torch.equal(out, touched[0]) for out in touched), "all steps give the same batch")
    rate, prob = len(touched) / steps, mix.prob
    said = f"{100 * rate:.0f} % of batches changed, {100 * sum(rates) / steps:.0f} % of rows mixed"
    if prob is None:
        return said
    what = "batches are changed"
    # Boxes can be empty by chance: a tenth of them at 64x64 with alpha 0.2.
    least = 0.85
    if mix.per_row:  # one of eight rows is its own partner
        rate, what, least = sum(rates) / steps, "rows are mixed", least * 7 / 8
    slack = SIGMAS * (prob * (1 - prob) / steps) ** 0.5 + 1 / steps
    fits = least * prob - slack <= rate <= prob + slack
    demand(fits, f"prob is {prob:g}, but {rate:.3f} of {what}, in {steps} steps of 8 rows")
    return said + f", prob {prob:g}"


def throughput(subject: Subject) -> str:
    mix, images, labels = subject.make(), _floats(128, 32, 32), subject.labels(128)
    return f"{speed(lambda: _mixed(mix, images, labels, 1), 128):,.0f} images of 32x32 per second"


CHECKS = (
    shape_and_type, label_weights, weights_are_shares, replays, steps_differ_and_rate,
    throughput,
)  # fmt: skip

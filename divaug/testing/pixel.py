"""The contract of the family ``pixel``."""

import pickle

import numpy as np
import torch
from torch import Tensor

from divaug.base.contracts import WholePixel, complete
from divaug.testing.kit import SIGMAS, Subject, demand, pictures, rng, speed

DRAWS = 20


def _views(pixel: WholePixel, images: Tensor, labels: Tensor, number: int = 0) -> Tensor:
    plan = pixel.sample(labels, (images.shape[1], images.shape[2]), rng(number))
    return pixel.apply(images, plan)


def shape_and_type(subject: Subject) -> str:
    pixel, shapes = subject.make(), set()
    for rows in (1, 2, 7):
        for channels in (1, 3):
            for height, width in ((32, 32), (12, 9)):
                seen = _views(pixel, pictures(rows, height, width, channels), subject.labels(rows))
                demand(seen.dtype == torch.uint8, f"returns {seen.dtype}, must be uint8")
                demand(seen.ndim == 4 and len(seen) == rows, f"returns {tuple(seen.shape)} for {rows} images")
                demand(seen.shape[3] == channels, f"turns {channels} channels into {seen.shape[3]}")
                shapes.add((height, width) == tuple(seen.shape[1:3]))
    return "uint8, size kept, 1 and 3 channels, B = 1, 2, 7" if shapes == {True} else "note: changes the size"


def batched_equals_one_by_one(subject: Subject) -> str:
    pixel = subject.make()
    if not pixel.batched:
        return "no batched form: the resident loader works image by image"
    changed = 0
    for channels in (1, 3):
        for number in range(10):  # enough batches to see some rows of a rarely applied component
            images, labels = pictures(7, 12, 9, channels), subject.labels(7)
            plan = pixel.sample(labels, (12, 9), rng(number))
            apart = np.stack([pixel.apply_one(image, plan, i) for i, image in enumerate(images.numpy())])
            demand(
                (pixel.apply(images, plan).numpy() == apart).all(),
                "apply(images, plan) and apply_one(image, plan, i) differ for equal plans",
            )
            changed += int((apart != images.numpy()).any((1, 2, 3)).sum()) if apart.shape == images.shape else 7
    return f"equal for equal plans; {changed} of 140 rows changed"


def replays(subject: Subject) -> str:
    images, labels = pictures(7, 12, 9, 3), subject.labels(7)
    before = images.clone()
    pixel = complete(pickle.loads(pickle.dumps(subject.make())))
    first, again = (_views(pixel, images, labels, 2) for _ in range(2))
    demand(torch.equal(images, before), "modifies its input images")
    demand(torch.equal(first, again), "equal generators give different images: something draws from another generator")
    strided = images.transpose(1, 2).contiguous().transpose(1, 2)
    demand(torch.equal(first, _views(pixel, strided, labels, 2)), "depends on the memory layout of the images")
    return "equal draws give equal images, after pickling too; inputs untouched"


def epochs_and_rows_differ(subject: Subject) -> str:
    pixel, labels = subject.make(), subject.labels(40)
    images = pictures(1, 32, 32, 3).expand(40, -1, -1, -1).contiguous()
    if subject.idle:
        return "does nothing, as its name says"
    first, rows_differ, epochs_differ = _views(pixel, images, labels, 3), False, False
    for number in range(4, 4 + DRAWS):  # most batches of a rarely applied component are alike
        rows_differ = rows_differ or len(torch.unique(first.flatten(1), dim=0)) > 1
        later = _views(pixel, images, labels, number)
        epochs_differ = epochs_differ or not torch.equal(first, later)
        if rows_differ and epochs_differ:
            break
        first = later
    demand(rows_differ, "all rows of a batch get the same view of an image")
    demand(epochs_differ, "two epochs get the same views")
    return "rows of one image differ, epochs differ"


def rate(subject: Subject) -> str:
    pixel = subject.make()
    prob = None if pixel.learns else pixel.prob
    rows = 400 if prob is None else 1600
    images, labels = pictures(rows, 16, 16, 3), subject.labels(rows)
    changed = 0.0
    for number in range(5, 5 + DRAWS):
        changed = (_views(pixel, images, labels, number) != images).flatten(1).any(1).float().mean().item()
        if changed or subject.idle:
            break
    if subject.idle:
        return "0 % of rows changed"
    demand(changed > 0, f"no row of {DRAWS} batches of {rows} is changed")
    if prob is None:
        return f"{100 * changed:.0f} % of rows changed"
    slack = SIGMAS * (prob * (1 - prob) / rows) ** 0.5 + 1 / rows
    # A draw may leave an image unchanged by chance, such as one shift in nine, but not a quarter of the draws.
    fits = 0.75 * prob - slack <= changed <= prob + slack
    demand(fits, f"prob is {prob:g}, but {changed:.3f} of {rows} rows are changed")
    return f"{100 * changed:.0f} % of rows changed, prob {prob:g}"


def throughput(subject: Subject) -> str:
    pixel, labels = subject.make(), subject.labels(128)
    images = pictures(128, 32, 32, 3)
    return f"{speed(lambda: _views(pixel, images, labels, 6), 128):,.0f} images of 32x32 per second"


CHECKS = (
    shape_and_type, batched_equals_one_by_one, replays, epochs_and_rows_differ,
    rate, throughput,
)  # fmt: skip

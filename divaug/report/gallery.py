"""What every registered augmentation does, at three strengths, to real images of a large and a small class."""

import copy
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from divaug.base.contracts import Donors
from divaug.base.errors import ConfigError
from divaug.base.labels import MixedLabels
from divaug.base.rng import stream
from divaug.config.registry import FEATURE, MIX, PIXEL, REGISTRIES
from divaug.config.schema import Config
from divaug.data.load import Data
from divaug.figures.gallery import Cloud, Row, Shown, draw_gallery
from divaug.latent.patches import RandomPatches
from divaug.report.document import Document
from divaug.train.build import Built, build

STRENGTHS = 3
BATCH = 96
DRAWS = 25
PATCHED = 500  # images whose patches make the space, if there is no encoder
POINTS = 40  # of the small class; more would hide one another
LEARNED = (2, 5, 10)  # levels shown of a component that learns them
LEFT_OUT = {"pixel": ("chain",), "partners": ("uniform",), "mix": (), "feature": ()}  # a chain is what its steps are


def write_gallery(folder: Path, config: Config, data: Data) -> tuple[Path, ...]:
    """Draw every registered augmentation on a data set's cut; return the PNG and the page's files.

    Args:
        folder: An existing folder.
        config: A run on these data; its encoder, if it has one, gives the space of the feature augmentations.
        data: Its data.
    """
    with closing(build(config, data)) as built:
        return _write(folder, config, data, built)


def _write(folder: Path, config: Config, data: Data, built: Built) -> tuple[Path, ...]:
    encode = built.space.encoder if built.space is not None else None
    if encode is None:
        encode = RandomPatches(torch.cat(list(built.train.evenly(PATCHED))))
        features = (encode(images) for images, _ in built.train.in_order())
        built.facts.late["encoder_features"] = lambda: torch.cat(list(features))
    plain, rows = images(data, built)
    planes = clouds(data, built, encode)
    heading = f"{config.dataset}: {plain[0].caption} ({data.counts.max()} images) and {plain[1].caption} "
    heading += f"({data.counts.min()})"
    png = draw_gallery(folder / f"{config.dataset}.png", plain, rows, planes, heading)
    page = Document(f"Augmentations on {config.dataset}")
    page.text("Every registered augmentation at three strengths, with label weights. The table lists the options.")
    page.figure(png, heading)
    page.table(pd.DataFrame([
        {"family": family, "name": row.name, "what it does": row.summary, **{
            title: ", ".join(f"{k} {v}" for k, v in options.items()) or "default"
            for title, options in zip(("weak", "medium", "strong"), row.options, strict=True)
        }}
        for family, row in [*((row.family, row) for row in rows), *(("feature", plane) for plane in planes)]
    ]))  # fmt: skip
    return png, *page.write(folder, config.dataset)


def strengths_of(family: str, name: str) -> list[dict[str, Any]]:
    """Return three sets of options, weak to strong: the class's own ``strengths``, or its defaults three times.

    A component that applies to a share of rows or steps only is shown applied to all of them.
    """
    registry = REGISTRIES[family]
    entry = registry.entry(name)
    always = {"prob": 1.0} if "prob" in entry.options else {}
    declared = getattr(registry.factory(name), "strengths", ({},) * STRENGTHS)
    if len(declared) != STRENGTHS:
        raise ConfigError(f"{family} {name!r} must have {STRENGTHS} strengths, weak to strong, but has {len(declared)}")
    return [{**always, **options} for options in declared]


def images(data: Data, built: Built, seed: int = 0) -> tuple[list[Shown], list[Row]]:
    """Return the images as they are, and what the pixel and mix components and the partner rules make of them."""
    labels = built.train.labels
    of_large, of_small = (int(c) for c in (data.counts.argmax(), data.counts.argmin()))
    first = [int(torch.nonzero(labels == c)[0]) for c in (of_large, of_small)]
    # the batch: a large one, a small one, then an image of every other class to be partners
    others = [c for c in range(len(data.counts)) if c not in (of_large, of_small)][:14]
    rng = stream(seed, "gallery")
    rows = np.array([*first, *(int(rng.choice(np.flatnonzero(labels.numpy() == c))) for c in others)])
    names = data.dataset.class_names
    pair = zip(_images(built, rows[:2]), (of_large, of_small), strict=True)
    plain = [Shown(_shown(built, image), names[c]) for image, c in pair]
    found = []
    for family in ("pixel", "mix", "partners"):
        for name, entry in REGISTRIES[family].entries().items():
            if name in LEFT_OUT[family]:
                continue
            options = strengths_of(family, name)
            shown = []
            for strength, chosen in enumerate(options):
                if family == "pixel":
                    shown.append(_pixel(built, name, chosen, rows, strength))
                else:
                    mixed = {"name": name, **chosen}
                    mix = (name, chosen) if family == "mix" else ("cutmix", {"prob": 1.0, "partner": mixed})
                    shown.append(_mix(built, mix, rows, names, strength))
            found.append(Row(family, name, entry.summary, options, shown))
    return plain, found


def _images(built: Built, rows: np.ndarray) -> Tensor:
    return built.train.normalize(built.train.take(rows))


def _shown(built: Built, image: Tensor) -> np.ndarray:
    """Return a normalised image as uint8 ``(H, W, ch)``."""
    return built.train.denormalize(image[None])[0].cpu().numpy()


def _pixel(built: Built, name: str, options: Mapping[str, Any], rows: np.ndarray, strength: int) -> list[Shown]:
    pixel = PIXEL.build(name, facts=built.facts, **options)
    if pixel.learns:
        pixel.levels[:] = LEARNED[strength]
    images, labels = built.train.take(rows), built.train.labels_of(rows)
    plan = pixel.sample(labels, (images.shape[1], images.shape[2]), stream(strength, "gallery/pixel"))
    return [Shown(image, "") for image in pixel.apply(images, plan)[:2].cpu().numpy()]


def _mix(
    built: Built, wanted: tuple[str, Mapping[str, Any]], rows: np.ndarray, names: list[str], strength: int
) -> list[Shown]:
    mix = MIX.build(wanted[0], facts=built.facts, **wanted[1])
    images, labels = _images(built, rows), built.train.labels_of(rows)
    draws = []
    for number in range(DRAWS):
        rng, donors = stream(strength, "gallery/mix", number), None
        if (asked := mix.donors(labels, rng)) is not None:
            index = asked.numpy()
            donors = Donors(_images(built, index), built.train.labels_of(index), index, index == rows)
        plan = mix.sample(labels, (images.shape[2], images.shape[3]), rng)
        out, target = mix.apply(images, labels, plan, donors)
        # a mix that resamples reports which row of the batch each of its rows comes from
        made_of = mix.made_of(plan, len(rows)).tolist()
        if 0 in made_of and 1 in made_of:
            at = [made_of.index(0), made_of.index(1)]
            draws.append((float(target.weights[at, 0].mean()), number, at, out, target))
    # a typical draw: the median of those that keep more than half of the image
    draws = [draw for draw in draws if draw[0] >= 0.5] or draws
    _, _, at, out, target = sorted(draws, key=lambda draw: draw[:2])[len(draws) // 2]
    return [Shown(_shown(built, out[i]), _caption(target, i, names)) for i in at]


def _caption(target: MixedLabels, i: int, names: list[str]) -> str:
    weights: dict[str, float] = {}
    for c, weight in zip(target.ids[i].tolist(), target.weights[i].tolist(), strict=True):
        weights[names[c]] = weights.get(names[c], 0.0) + weight
    return "\n".join(f"{name[:11]} {weight:.2f}" for name, weight in weights.items() if weight > 0.005)


def clouds(data: Data, built: Built, encode: Callable[[Tensor], Tensor] | None = None) -> list[Cloud]:
    """Return what the feature components make of a small class's embeddings, in the plane of its principal axes.

    Args:
        data: The data.
        built: What is built on them.
        encode: Maps normalised images to embeddings; by default fixed random whitened patches.
    """
    encode = encode or RandomPatches(torch.cat(list(built.train.evenly(PATCHED))))
    features = torch.cat([encode(images).cpu() for images, _ in built.train.in_order()])
    labels = built.train.labels
    order = np.argsort(data.counts, kind="stable")
    small = int(next((c for c in order if data.counts[c] >= 8), order[-1]))  # enough points to see
    own = features[labels == small]
    others = features[labels != small]
    seen = own[:POINTS]
    enemies = others[torch.cdist(seen, others).topk(min(3, len(others)), largest=False).indices.flatten().unique()]
    plane = torch.cat([seen, enemies])
    axes = torch.linalg.svd(plane - plane.mean(0), full_matrices=False).Vh[:2].T

    def project(z: Tensor) -> np.ndarray:
        return ((z - plane.mean(0)) @ axes).numpy()

    facts = copy.copy(built.facts)  # the schedule ends when the statistics have seen every embedding
    facts |= {"feature_dim": features.shape[1], "total_steps": -(-len(labels) // BATCH)}
    found = []
    for name, entry in FEATURE.entries().items():
        options = strengths_of("feature", name)
        made = [project(_made(name, chosen, facts, features, labels, small)[: 2 * POINTS]) for chosen in options]
        found.append(Cloud(name, entry.summary, options, project(seen), project(enemies), made))
    return found


def _made(
    name: str, options: Mapping[str, Any], facts: Mapping[str, Any], features: Tensor, labels: Tensor, small: int
) -> Tensor:
    """Return what a feature component makes of a class, ``(R, D)``: its moved rows and the rows added to it."""
    feature = FEATURE.build(name, facts=facts, **options)
    own, others = features[labels == small][:POINTS], features[labels != small]
    other_labels = labels[labels != small]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    for step, batch in enumerate(order.split(BATCH)):  # every embedding once, to fill memories and statistics
        feature(features[batch], MixedLabels.hard(labels[batch]), stream(0, "gallery/feature", 0, step))
    state = copy.deepcopy(feature.state_dict())
    found = [features[:0]]
    for step in range(6):
        feature.load_state_dict(state)
        rows = torch.randperm(len(others), generator=torch.Generator().manual_seed(step))[:BATCH]
        z = torch.cat([own, others[rows]])
        target = MixedLabels.hard(torch.cat([torch.full((len(own),), small), other_labels[rows]]))
        out, after = feature(z, target, stream(1, "gallery/feature", 0, step))
        moved, still = (out[: len(own)] != own).any(1), after.dominant()[: len(own)] == small
        found.append(out[: len(own)][moved & still])
        feature.load_state_dict(state)
        z, target = others[rows], MixedLabels.hard(other_labels[rows])  # the class itself is in the memory already
        out, after = feature(z, target, stream(2, "gallery/feature", 0, step))
        found.append(out[len(z) :][after.dominant()[len(z) :] == small])
    return torch.cat(found)[: 4 * len(own)].detach()

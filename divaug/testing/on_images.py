"""All checks of one registered component on a data set's long-tailed cut."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import torch

from divaug.config.registry import REGISTRIES
from divaug.config.schema import Config
from divaug.data.load import Data, request_of
from divaug.latent.patches import RandomPatches
from divaug.testing import Check, check_component
from divaug.testing.diversity import diversity_per_view
from divaug.testing.kit import Subject, run
from divaug.train.build import Built, build, build_model

PATCHED = 500  # images whose patches make the space


def check_on_images(config: Config, data: Data, family: str, name: str, options: Mapping[str, Any]) -> list[Check]:
    """Return the results: the family's contract, then for augmentations how much diversity the views add.

    The space is that of the run's encoder or, without one, of fixed random whitened patches.

    Args:
        config: A run on these data.
        data: Its data.
        family: A family of components.
        name: A registered name.
        options: Hyperparameters other than the defaults.
    """
    with closing(build(config, data)) as built:
        return _check(config, data, built, family, name, options)


def _check(config: Config, data: Data, built: Built, family: str, name: str, options: Mapping[str, Any]) -> list[Check]:
    encode = built.space.encoder if built.space is not None else RandomPatches(
        torch.cat(list(built.train.evenly(PATCHED)))
    )  # fmt: skip
    if built.space is None:
        batches = (images for images, _ in built.train.in_order())
        built.facts.late["encoder_features"] = lambda: torch.cat([encode(images) for images in batches])
    facts = built.facts
    facts.update(more_facts(config, data))
    checks = check_component(family, name, facts, dict(options))
    if family not in ("pixel", "mix") or checks[0].outcome == "fail":
        return checks

    def diversity(subject: Subject) -> str:
        return diversity_per_view(family, subject.make(), built.train, built.train.labels, encode)

    diversity.__name__ = "diversity_per_view"
    subject = Subject(lambda: REGISTRIES[family].build(name, facts=facts, **options), facts, idle=False)
    return [*checks, run(diversity, subject)]


def more_facts(config: Config, data: Data) -> dict[str, Any]:
    """Return the facts of families that are built before the others: data sets, networks, optimisers."""
    height, width, channels = data.train.images.shape[1:]
    return {
        "request": request_of(config), "channels": channels, "size": (height, width), "lr": config.lr,
        "momentum": config.momentum, "nesterov": config.nesterov, "validation": None,
        "new_head": lambda: build_model(config, data.manifest).head,
        "parameters": [{"params": [torch.nn.Parameter(torch.ones(3, 2))], "weight_decay": 0.01},
                       {"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": 0.0}],
    }  # fmt: skip

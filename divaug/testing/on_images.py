"""All checks of one registered augmentation on a data set's long-tailed cut."""

from collections.abc import Mapping
from typing import Any

import torch

from divaug.config.registry import REGISTRIES
from divaug.config.schema import Config
from divaug.data.load import Data
from divaug.latent.patches import RandomPatches
from divaug.testing import Check, check_component
from divaug.testing.diversity import diversity_per_view
from divaug.train.build import build

PATCHED = 500  # images whose patches make the space


def check_on_images(config: Config, data: Data, family: str, name: str, options: Mapping[str, Any]) -> list[Check]:
    """Return the results: the family's contract, then how much diversity the views add.

    The space is that of the run's encoder or, without one, of fixed random whitened patches.

    Args:
        config: A run on these data.
        data: Its data.
        family: pixel, mix, feature or partners.
        name: A registered name.
        options: Hyperparameters other than the defaults.
    """
    built = build(config, data)
    encode = built.space.encoder if built.space is not None else RandomPatches(
        torch.cat(list(built.train.evenly(PATCHED)))
    )  # fmt: skip
    if built.space is None:
        batches = (images for images, _ in built.train.in_order())
        built.facts.late["encoder_features"] = lambda: torch.cat([encode(images) for images in batches])
    checks = check_component(family, name, built.facts, dict(options))
    component = REGISTRIES[family].build(name, facts=built.facts, **options)
    return [*checks, diversity_per_view(family, component, built.train, built.train.labels, encode)]

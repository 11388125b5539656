"""The contracts of augmentations as checks that run on any component: our tests and users' own checks use them."""

from collections.abc import Mapping
from typing import Any

from divaug.config.registry import REGISTRIES
from divaug.testing import feature, mix, partners, pixel
from divaug.testing.kit import Check, Subject, run

CHECKS = {"pixel": pixel.CHECKS, "mix": mix.CHECKS, "feature": feature.CHECKS, "partners": partners.CHECKS}


def check_component(family: str, name: str, facts: Mapping[str, Any], options: Mapping[str, Any]) -> list[Check]:
    """Run a family's contract on a component.

    Args:
        family: pixel, mix, feature or partners.
        name: Registered name.
        facts: Values known only from data, as the registry expects them; at least ``labels`` and ``class_counts``.
        options: Hyperparameters.

    Returns:
        One Check per part of the contract, in order.

    Raises:
        ConfigError: The component cannot be built.
    """
    subject = Subject(
        lambda: REGISTRIES[family].build(name, facts=facts, **options), facts, idle=name in ("none", "uniform")
    )
    subject.make()
    return [run(check, subject) for check in CHECKS[family]]

"""The contracts of all families as checks that run on any component: our tests and users' own checks use them."""

from collections.abc import Mapping
from typing import Any

import torch

from divaug.config.registry import REGISTRIES
from divaug.testing import (
    class_weights,
    datasets,
    feature,
    heads,
    losses,
    mix,
    models,
    optim,
    partners,
    pixel,
    posthoc,
    samplers,
)
from divaug.testing.kit import Check, Subject, run

CHECKS = {
    "datasets": datasets.CHECKS, "models": models.CHECKS, "heads": heads.CHECKS, "samplers": samplers.CHECKS,
    "losses": losses.CHECKS, "class_weights": class_weights.CHECKS, "pixel": pixel.CHECKS, "mix": mix.CHECKS,
    "partners": partners.CHECKS, "feature": feature.CHECKS, "optim": optim.CHECKS,
    "posthoc": posthoc.CHECKS,
}  # fmt: skip


def check_component(family: str, name: str, facts: Mapping[str, Any], options: Mapping[str, Any]) -> list[Check]:
    """Run a family's contract on a component, whatever it does: it may raise, hang or call sys.exit.

    Args:
        family: A family of components.
        name: Registered name.
        facts: Values known only from data, as the registry expects them; at least those that the family's components
            ask for.
        options: Hyperparameters.

    Returns:
        One Check per part of the contract, in order; only the first, "build", if the component cannot be built.
    """
    weights = family in ("models", "heads", "posthoc")  # their first weights, and dropout, come from torch's generator

    def make() -> Any:
        with torch.random.fork_rng(devices=[], enabled=weights):
            if weights:
                torch.manual_seed(0)
            return REGISTRIES[family].build(name, facts=facts, **options)

    subject = Subject(make, facts, idle=name in ("none", "uniform"))
    built = run(build, subject)
    if built.outcome == "fail":
        return [built]
    return [built, *(run(check, subject, may_draw=weights) for check in CHECKS[family])]


def build(subject: Subject) -> str:
    """Build the component."""
    return type(subject.make()).__name__

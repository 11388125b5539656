"""From logits to probabilities and a decision: temperature, thresholds of classes, and abstention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from divaug.base.metrics import softmax

ABSTAINED = -1


@dataclass(frozen=True)
class Decision:
    """How a model's logits become a decision.

    Attributes:
        temperature: Divides the logits, > 0: above 1 the probabilities are less sure.
        thresholds: For classes by name, the probability from which an image is called that class.
        abstain: No decision where the largest probability is below this; 0 always decides.
        notes: For classes with a threshold, what it promises, in words.
        promised: For classes whose threshold promises one, ``{"sensitivity": share}`` or ``{"specificity": share}``.
    """

    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    abstain: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)
    promised: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def probabilities(self, logits: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "N C"]:
        """Return the probabilities of every class, in float64."""
        return softmax(logits.astype(np.float64) / self.temperature)

    def decide(self, probabilities: Float[np.ndarray, "N C"], classes: Sequence[str]) -> Int[np.ndarray, "N"]:
        """Return the class of every image, or -1 where the model abstains.

        An image whose probability of a class reaches the class's threshold is called that class (of several, the one
        that exceeds its threshold by the largest factor). Other images get the most probable of the classes without a
        threshold, or -1 if its probability is below ``abstain``.

        Args:
            probabilities: From ``probabilities``.
            classes: Names, in the order of the columns.

        Example:
            >>> import numpy as np
            >>> from divaug.runs.decision import Decision
            >>> rule = Decision(thresholds={"rare": 0.2}, abstain=0.6)
            >>> rule.decide(np.array([[0.7, 0.3], [0.9, 0.1], [0.55, 0.1]]), ["common", "rare"]).tolist()
            [1, 0, -1]
        """
        bounds = np.array([self.thresholds.get(name, np.nan) for name in classes])
        bounded = ~np.isnan(bounds)
        free = np.where(bounded, -np.inf, probabilities)
        if bounded.all():
            free = probabilities / bounds
        chosen = free.argmax(1)
        largest = probabilities[np.arange(len(chosen)), chosen]
        chosen = np.where(largest < self.abstain, ABSTAINED, chosen)
        if bounded.any():
            excess = np.where(bounded, probabilities / np.where(bounded, bounds, 1.0), -np.inf)
            called = excess.max(1) >= 1
            chosen = np.where(called, excess.argmax(1), chosen)
        return chosen

    def table(self) -> dict[str, Any]:
        """Return it as plain values, for a file."""
        return {
            "temperature": self.temperature, "thresholds": dict(self.thresholds), "abstain": self.abstain,
            "notes": dict(self.notes), "promised": {name: dict(kind) for name, kind in self.promised.items()},
        }  # fmt: skip

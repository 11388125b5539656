"""How often would the analysis say what is true? Simulated with the code that judges the real rows."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from divaug.study.exchange.analysis import FACTORIAL, factorial
from divaug.study.exchange.plan import Spreads, Words

PHIS = (0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7)


def simulate(
    phi: float, pairs: int, spreads: Spreads, words: Words, *, repetitions: int, rng: np.random.Generator
) -> Counter[str]:
    """Return how often each word is said of simulated studies.

    Every study has ``pairs`` pairs of cuts. An arm's outcome in a cut is the true mean, the cut's luck, half of the
    classes' levels with opposite signs in the two cuts of a pair, and the run's own noise, whose standard deviation
    depends on the arm. phi may be anything; it is the true share of the breadth in the gain.
    """
    said: Counter[str] = Counter()
    share = dict(zip(FACTORIAL, (0.0, phi, 1 - phi, 1.0), strict=True))
    for _ in range(repetitions):
        luck = rng.normal(0, spreads.luck, (pairs, 2))
        classes = rng.normal(0, spreads.classes, pairs)[:, None] * np.array([1.0, -1.0])
        gains = spreads.gain * (1 + spreads.effects * rng.normal(0, 1, (pairs, 2)))
        arms = {
            name: (share[name] * gains + luck + classes + rng.normal(0, spreads.run[name], (pairs, 2))).mean(1)
            for name in FACTORIAL
        }
        said[factorial(arms, words).verdict] += 1
    return said


def power_table(
    cases: Sequence[Spreads],
    cuts: Sequence[int],
    words: Words,
    *,
    repetitions: int = 2000,
    seed: int = 0,
    phis: Sequence[float] = PHIS,
) -> Any:
    """Return a DataFrame: for each case, number of cuts and true phi, the share of simulated studies with each word."""
    import pandas as pd

    out = []
    for spreads in cases:
        for count in cuts:
            for phi in phis:
                rng = np.random.default_rng([seed, count, round(1000 * phi)])
                said = simulate(phi, count // 2, spreads, words, repetitions=repetitions, rng=rng)
                shares = {word: times / repetitions for word, times in said.items()}
                out.append({"case": spreads.name, "gain": spreads.gain, "cuts": count, "phi": phi, **shares})
    return pd.DataFrame(out).fillna(0.0)

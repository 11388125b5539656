"""Is a promised sensitivity kept on new groups, where images of one group (patient, slide) are alike?

Scores of a class's images are N(0, 1), with a share of their variance between groups. A threshold is chosen so that the
lower Wilson bound of the sensitivity is the promise. Images of one group count as fewer (``effective_number``), or as
independent ones. The promise is missed if the sensitivity on new groups is below it. Rows go to
``benchmarks/results/groups.csv``: in how many of the trials a promise was made, and missed. A promise is one-sided at
0.975, so one in forty may be missed. In the rows "odd", a tenth of all groups looks otherwise (scores 4 lower): what no
group of the sample shows cannot be counted on, and such promises are missed.

    python benchmarks/groups.py [--trials 1000]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr

from divaug.runs.threshold import for_sensitivity

ROWS = Path(__file__).parent / "results" / "groups.csv"
KINDS = ("0", "0.2", "0.5", "0.8", "odd")  # variance between groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    rows = []
    for kind in KINDS:
        for groups in (5, 10, 20, 50):
            for size in (3, 10):
                rng = np.random.default_rng([groups, size, KINDS.index(kind)])
                found = [trial(rng, kind, groups, size) for _ in range(trials)]
                for column, counted in enumerate(("independent", "by groups")):
                    results = [each[column] for each in found]
                    made = sum(result is not None for result in results)
                    missed = sum(result is False for result in results)
                    rows.append({
                        "between": kind, "groups": groups, "images_per_group": size, "counted": counted,
                        "trials": trials, "promised": made, "missed": missed,
                    })  # fmt: skip
    pd.DataFrame(rows).to_csv(ROWS, index=False)
    print(pd.DataFrame(rows).to_string(index=False))


def trial(rng: np.random.Generator, kind: str, groups: int, size: int) -> list[bool | None]:
    """Return whether a promise of 0.8 was kept, None where none was made: as independent images, and by groups."""
    of = np.repeat(np.arange(groups), size)
    between = 0.0 if kind == "odd" else float(kind)
    own = np.sqrt(between) * rng.normal(size=groups)[of] + np.sqrt(1 - between) * rng.normal(size=len(of))
    own -= 4.0 * (rng.random(groups) < 0.1)[of] if kind == "odd" else 0.0
    scores, positive = np.append(own, -99.0), np.arange(len(of) + 1) < len(of)
    results: list[bool | None] = []
    for known in (None, np.append(of, -1)):
        point, holds = for_sensitivity(scores, positive, 0.8, groups=known)
        kept = 1 - ndtr(point.threshold)
        kept = 0.9 * kept + 0.1 * (1 - ndtr(point.threshold + 4)) if kind == "odd" else kept
        results.append(bool(kept >= 0.8) if holds else None)
    return results


if __name__ == "__main__":
    main()

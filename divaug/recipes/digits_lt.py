"""Train and compare methods on scikit-learn's real digits, long-tailed: no download, minutes on a laptop.

    python -m divaug.recipes.digits_lt
    python -m divaug.recipes.digits_lt --methods erm,ldam_drw --seeds 0-5

Default: imbalance factor 20 (87 to 4 images per class), methods erm, ros, cutmix and cmo, one seed.
"""

import sys
from collections.abc import Sequence

from divaug.config.command import main as run_main
from divaug.recipes._compare_methods import train_and_compare

RECIPE = {"dataset": "digits"}
METHODS = ("erm", "ros", "cutmix", "cmo")
SMOKE = {"epochs": 2, "imbalance_factor": 10.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        return train_and_compare(
            "divaug.recipes.digits_lt", __doc__ or "", arguments, RECIPE, methods=METHODS, smoke=SMOKE
        )

    return run_main("digits_lt", argv, work)


if __name__ == "__main__":
    sys.exit(main())

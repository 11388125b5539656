"""Train and compare methods on long-tailed CIFAR-10 (or any other data set).

    python -m divaug.recipes.cifar_lt
    python -m divaug.recipes.cifar_lt --methods erm,ros,cmo --seeds 0-2 --imbalance-factor 50

Default: CIFAR-10, imbalance factor 100, methods erm, ros, cutmix and cmo, one seed, the fast preset.
"""

import sys
from collections.abc import Sequence

from divaug.config.command import main as run_main
from divaug.recipes._compare_methods import train_and_compare

RECIPE = {"dataset": "cifar10", "profile": "exp", "imbalance_factor": 100.0}
METHODS = ("erm", "ros", "cutmix", "cmo")
SMOKE = {"dataset": "digits", "epochs": 2, "imbalance_factor": 10.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        return train_and_compare(
            "divaug.recipes.cifar_lt", __doc__ or "", arguments, RECIPE, methods=METHODS, smoke=SMOKE
        )

    return run_main("cifar_lt", argv, work)


if __name__ == "__main__":
    sys.exit(main())

"""Train and compare methods on your own images: a folder of class folders, or a CSV.

    python -m divaug.recipes.folder_lt my_images --test my_test_images
    python -m divaug.recipes.folder_lt cells.csv --image-size 64 --methods erm,ros,cmo

A CSV has the columns path,label and optionally split, group and source; paths are relative to the CSV. Without --test
and without a column split, a test part is carved off: stratified, and by whole groups (patients, slides, cameras).
"""

import sys
from collections.abc import Sequence

from divaug.config.command import main as run_main
from divaug.recipes._compare_methods import train_and_compare

METHODS = ("erm", "ros", "cutmix", "cmo")
SMOKE = {"epochs": 2, "max_per_class": 20}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        return train_and_compare(
            "divaug.recipes.folder_lt", __doc__ or "", arguments, {}, methods=METHODS, smoke=SMOKE,
            positional=("path", "folder of class folders, or a CSV"), show_classes=True,
        )  # fmt: skip

    return run_main("folder_lt", argv, work)


if __name__ == "__main__":
    sys.exit(main())

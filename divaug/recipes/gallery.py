"""See every registered augmentation at three strengths on real images of a large and a small class: a PNG and a page.

    python -m divaug.recipes.gallery                                  # digits, no download
    python -m divaug.recipes.gallery --dataset cifar10
    python -m divaug.recipes.gallery --import my_augs.py              # with your own

Label weights appear below mixed images. For feature augmentation the plane of the first two principal axes shows the
embeddings of a small class, what became of them, and the nearest embeddings of other classes. The space is that of
--encoder FILE or, without it, of fixed random whitened patches. A component's class attribute ``strengths``, three
tables of options, defines weak, medium and strong; without it three draws at its defaults are shown.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from divaug.base.errors import ConfigError
from divaug.config import flags
from divaug.config.command import main as run_main
from divaug.config.tables import dump

RECIPE = {"dataset": "digits", "imbalance_factor": 10.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        request = flags.parse("divaug.recipes.gallery", __doc__ or "", arguments, RECIPE, methods=("erm",))
        if request is None:
            return 0
        os.environ.setdefault("MPLBACKEND", "Agg")
        from divaug.base.files import make_folder
        from divaug.data.load import load_data
        from divaug.report.gallery import write_gallery

        asked = "--device" in {argument.partition("=")[0] for argument in arguments}
        if asked and request.only.device not in ("auto", "cpu"):
            raise ConfigError(f"--device {request.only.device} has no effect here: images are augmented on the CPU")
        config = replace(request.only, device="cpu")
        folder = Path(config.output_dir) / "gallery"
        if request.print_config or request.dry_run:
            print(dump(config) if request.print_config else folder / f"{config.dataset}.png")
            return 0
        make_folder(folder)
        files = write_gallery(folder, config, load_data(config))
        print("gallery: " + "  ".join(os.path.relpath(file) for file in files))
        return 0

    return run_main("gallery", argv, work)


if __name__ == "__main__":
    sys.exit(main())

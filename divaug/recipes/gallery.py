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

from divaug.config import flags
from divaug.config.tables import dump

RECIPE = {"dataset": "digits", "imbalance_factor": 10.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        request = flags.parse("divaug.recipes.gallery", __doc__ or "", arguments, RECIPE, methods=("erm",))
        if request is None:
            return 0
        os.environ.setdefault("MPLBACKEND", "Agg")
        import pandas as pd
        import torch

        from divaug.base.files import make_folder
        from divaug.data.load import load_data
        from divaug.figures.gallery import draw_gallery
        from divaug.latent.patches import RandomPatches
        from divaug.report import gallery
        from divaug.report.document import Document
        from divaug.train.build import build

        config = replace(request.only, device="cpu")
        folder = Path(config.output_dir) / "gallery"
        if request.print_config or request.dry_run:
            print(dump(config) if request.print_config else folder / f"{config.dataset}.png")
            return 0
        make_folder(folder)
        data = load_data(config)
        built = build(config, data)
        encode = built.space.encoder if built.space is not None else None
        if encode is None:
            encode = RandomPatches(torch.cat(list(built.train.evenly(500))))
            features = (encode(images) for images, _ in built.train.in_order())
            built.facts.late["encoder_features"] = lambda: torch.cat(list(features))
        plain, rows = gallery.images(data, built)
        clouds = gallery.clouds(data, built, encode)
        heading = f"{config.dataset}: {plain[0].caption} ({data.counts.max()} images) and {plain[1].caption} "
        heading += f"({data.counts.min()})"
        png = draw_gallery(folder / f"{config.dataset}.png", plain, rows, clouds, heading)
        page = Document(f"Augmentations on {config.dataset}")
        page.text("Every registered augmentation at three strengths, with label weights. The table lists the options.")
        page.figure(png, heading)
        shown = [(row.family, row) for row in rows] + [("feature", cloud) for cloud in clouds]
        page.table(pd.DataFrame([
            {"family": family, "name": row.name, "what it does": row.summary, **{
                title: ", ".join(f"{k} {v}" for k, v in options.items()) or "default"
                for title, options in zip(("weak", "medium", "strong"), row.options, strict=True)
            }}
            for family, row in shown
        ]))  # fmt: skip
        files = page.write(folder, config.dataset)
        print("gallery: " + "  ".join(os.path.relpath(file) for file in (png, *files)))
        return 0

    return flags.main("gallery", argv, work)


if __name__ == "__main__":
    sys.exit(main())

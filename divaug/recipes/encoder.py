"""Train a common encoder without labels: rotation prediction on one half of the training images.

    python -m divaug.recipes.encoder --dataset cifar10
    python -m divaug.recipes.cifar_lt --data-part a --encoder runs/encoders/cifar10-b-1a2b3c4d.pt

It learns on all images of half b (--data-part b), whatever the imbalance factor; the runs that it judges train on half
a. Numbers measured in a run's own space depend on its training; in the common space runs can be compared. Keep the file
for the whole study: trained again on another machine, an encoder has other weights and so another name, and the runs
that it judges become another experiment.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from divaug.config import flags
from divaug.config.command import main as run_main
from divaug.config.tables import dump

RECIPE = {"dataset": "cifar10", "profile": "natural", "data_part": "b"}
SMOKE = {"dataset": "digits", "epochs": 2, "max_per_class": 30}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        request = flags.parse("divaug.recipes.encoder", __doc__ or "", arguments, RECIPE, methods=("erm",), smoke=SMOKE)
        if request is None:
            return 0
        config = request.only
        if request.print_config or request.dry_run:
            print(dump(config) if request.print_config else f"half {config.data_part} of {config.dataset}")
            return 0
        import torch

        from divaug.data.load import load_data
        from divaug.models.encoder import Encoder
        from divaug.train.build import resolve
        from divaug.train.encoder import train_encoder

        if config.threads:
            torch.set_num_threads(config.threads)
        data = load_data(config)
        path = train_encoder(resolve(config, data), data, Path(config.output_dir) / "encoders")
        manifest = Encoder.load(path).manifest
        print(
            f"{path}\n{manifest['pictures']} images of half {manifest['data_part']}; rotations predicted: "
            f"{100 * manifest['train_accuracy']:.1f} % in training, {100 * manifest['test_accuracy']:.1f} % in testing "
            "(25 % by chance)"
        )
        return 0

    return run_main("encoder", argv, work)


if __name__ == "__main__":
    sys.exit(main())

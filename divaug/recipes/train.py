"""From your own images to a model that you can use: candidates compared on folds, one model of all images.

    divaug train cells.csv
    divaug train my_images --folds 10 --jobs 1 --name cells

PATH is a folder of class folders, or a CSV (path, label, optionally group). Four fixed candidates are compared on the
folds: erm (plain training), logit_adjusted (scores shifted by class size), ros (rare classes drawn more often) and
strong_tail (stronger augmentation of rare classes). No group is on both sides of a fold. The winner, or erm where it is
too close to call, is trained on all images and written to models/NAME with a card and report/index.html; divaug
predict, threshold and export take that folder.

    divaug train cells.csv --model timm:resnet18 --weights resnet18.safetensors --train head

Pretrained weights come from a file and must fit the network; --train says what is trained: full, last:N blocks, or head
on features that are extracted once, without augmentation.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from divaug.base.errors import ConfigError, DataError
from divaug.config import flags
from divaug.config.command import main as run_main
from divaug.config.jobs import add_jobs, jobs_of
from divaug.config.layers import names, resolve
from divaug.config.schema import OWN_IMAGES, Config, default_of
from divaug.config.tables import dump

CANDIDATES = ("erm", "logit_adjusted", "ros", "strong_tail")
LAST = 10**6  # epochs: only the last is evaluated, and nothing is chosen on earlier ones
RECIPE = {"tracking": "off", "profile": "natural", "monitor": False, "eval_every": LAST}
SMOKE = {"epochs": 2}
BRIEF = (
    "path", "methods", "smoke", "dry_run", "quiet", "verbose", "path_column", "label_column", "group_column",
    "image_size", "resize", "data_root", "allow_leaks", "model", "weights", "train", "epochs", "batch_size", "lr",
    "device", "output_dir", "threads", "seed", "list", "describe",
)  # fmt: skip
IDLE = (
    "profile",
    "counts",
    "class_order",
    "subset",
    "max_per_class",
    "data_part",
    "val_frac",
    "holdout",
    "extra_train",
    "test_frac",
)
LARGE = 64  # pixels a side; the memory that --jobs auto reckons with is of small networks on small images


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe; see the module's docstring."""

    def work(arguments: list[str]) -> int:
        request = flags.parse(
            "divaug train", __doc__ or "", arguments, RECIPE, methods=CANDIDATES, smoke=SMOKE,
            positional=("path", "folder of class folders, or a CSV"), own_flags=_flags,
            brief=BRIEF,
        )  # fmt: skip
        if request is None:
            return 0
        return _train(request)

    return run_main("train", argv, work)


def _flags(parser: Any) -> None:
    group = parser.add_argument_group("the model")
    group.add_argument("--folds", default="5", metavar="N", help="folds, or groups for one a group (default: 5)")
    group.add_argument(
        "--name", metavar="NAME", help="name of the model folder (default: the name of PATH, with -smoke after a trial)"
    )
    group.add_argument("--models-dir", default="models", metavar="DIR", help="where it is written (default: models)")
    add_jobs(group, "auto")


def _train(request: flags.Request) -> int:
    first, folds = request.configs[0], request.extra["folds"]
    if folds != "groups" and not (folds.isdecimal() and int(folds) >= 2):
        raise ConfigError(f"--folds must be a whole number >= 2, or groups, got {folds!r}")
    if first.path is None or first.dataset not in OWN_IMAGES:
        raise ConfigError("the argument PATH is missing: divaug train takes images of your own")
    _refuse_idle(request.configs)
    path = Path(first.path)
    own = path.resolve().name if path.is_dir() else path.stem  # a folder's name has no ending
    name = request.extra["name"] or own + ("-smoke" if request.smoke else "")
    folder = Path(request.extra["models_dir"]) / name
    if folder.exists() and any(folder.iterdir()) and not (folder / "model.json").exists():
        raise ConfigError(f"{folder} holds something else than a model; choose another --name")
    if request.print_config:
        print("\n".join(dump(config) for config in request.configs))
        return 0
    if request.dry_run:
        print("\n".join(f"{config.method}  {folds} folds" for config in request.configs) + f"\n{folder}")
        return 0
    if not path.exists():
        raise DataError(f"{path} does not exist")
    os.environ.setdefault("MPLBACKEND", "Agg")
    from divaug.base.progress import Progress
    from divaug.study.own_images import train_model

    progress = Progress("none" if request.quiet else first.progress)
    for method in request.left_out:
        progress.say(f"{method} is left out: it changes images, and train head extracts features once")
    known = names("methods")
    for config in request.configs if len(request.configs) > 1 else ():
        progress.say(f"to be compared: {config.method}" + (f", {told}" if (told := known.get(config.method)) else ""))
    configs = [replace(config, progress="none") for config in request.configs]
    asked = request.extra["jobs"]
    if asked == "auto" and (first.model.name.startswith("timm:") or (first.image_size or 0) > LARGE):
        asked = "1"  # how many of them memory holds is for the user to say
    jobs = jobs_of(asked, threads=first.threads, device=first.device)
    train_model(
        configs, folds if folds == "groups" else int(folds), folder, jobs=jobs, trial=request.smoke, say=progress.say
    )
    print((folder / "card.md").read_text(encoding="utf-8"))
    print(f"model: {folder}\npage: {folder / 'report' / 'index.html'}")
    return 0


def _refuse_idle(configs: Sequence[Config]) -> None:
    """Refuse keys of one cut with its own test part: here all images are dealt into folds, as they are."""
    if len({config.seed for config in configs}) > 1:
        raise ConfigError("--seeds: divaug train has one seed; give --seed, or compare seeds with divaug folder_lt")
    for config in configs:
        neutral = {**{key: default_of(key) for key in IDLE}, "profile": "natural"}
        if idle := [key for key, value in neutral.items() if getattr(config, key) != value]:
            raise ConfigError(
                f"--{idle[0].replace('_', '-')} has no effect here: all images are dealt into folds, as they are; use "
                "it with divaug folder_lt"
            )
        if config.vary != resolve(flags={"preset": config.preset}).vary:
            raise ConfigError("--vary has no effect here: all images are dealt into folds, as they are")


if __name__ == "__main__":
    sys.exit(main())

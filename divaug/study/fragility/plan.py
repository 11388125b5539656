"""Which networks are trained to judge the claims: cuts, losses, repeats and planted patches, by seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from divaug.config.layers import experiment_name, method_label
from divaug.config.schema import Config
from divaug.runs.folder import RunFolder

CUTS = ("exp", "balanced_small", "balanced")
SHARES = (0.1, 0.3, 0.6, 0.9)
OTHER = 1000  # added to a seed to get another one


@dataclass(frozen=True)
class Arm:
    """One kind of run, trained once per seed.

    Attributes:
        method: Named method (which fixes the loss).
        cut: Profile of the training cut; the long-tailed one comes first in a recipe's list of cuts.
        repeat: "" or the only difference from the plain arm, for the nulls: "seed" (initial weights, order,
            augmentation) or "data" (which images are in the cut).
        planted: "" or the class that has the patch: "rare" or "frequent".
        share: Share of that class's training images with the patch.
    """

    method: str
    cut: str
    repeat: str = ""
    planted: str = ""
    share: float = 0.0

    @property
    def name(self) -> str:
        """The arm's folder."""
        parts = [self.method, self.cut, self.repeat and f"other-{self.repeat}"]
        parts.append(self.planted and f"patch-{self.planted}-{round(100 * self.share)}")
        return "_".join(part for part in parts if part)


def arms(methods: Sequence[str], cuts: Sequence[str] = CUTS, shares: Sequence[float] = SHARES) -> list[Arm]:
    """Return the arms: every method on every cut, and with the first of each the repeats and the planted patches."""
    first = methods[0], cuts[0]
    planned = [Arm(method, cut) for method in methods for cut in cuts]
    planned += [Arm(*first, repeat=what) for what in ("seed", "data")]
    return planned + [Arm(*first, planted=where, share=p) for where in ("rare", "frequent") for p in shares]


def config_of(arm: Arm, base: Config) -> Config:
    """Return the configuration of an arm's run.

    Which classes are rare changes with every seed (``class_order``), so that class and size are not confounded.
    Initial weights, order, augmentation and the images of the cut change with the seed too. All arms of one seed
    share them.

    Args:
        arm: The arm.
        base: A configuration of the arm's method with the seed.
    """
    seed = base.seed
    return replace(
        base,
        profile=arm.cut,
        class_order=f"permuted:{seed}",
        vary="init",  # class order and cut are set here
        subset="nested",
        split_seed=seed + OTHER * (arm.repeat == "data"),
        seed=seed + OTHER * (arm.repeat == "seed"),
        eval_every=base.epochs,
        monitor_at=(1.0,),
        tracking="off",
        progress="none",
    )


def folder_of(arm: Arm, base: Config) -> RunFolder:
    """Return the folder of an arm's run: ``DIR/fragility/<experiment>/<arm>/seed<k>``."""
    name = Path(base.output_dir) / "fragility" / experiment_name(base)
    changed = method_label(base).removeprefix(base.method)
    return RunFolder(name / f"{arm.name}{changed}" / f"seed{base.seed}")

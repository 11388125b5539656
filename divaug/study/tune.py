"""Fair tuning: every method gets the same number of configurations, chosen on validation images only."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import ConfigError, DivaugError, DivergedError
from divaug.base.files import make_folder, write_text
from divaug.base.rng import stream
from divaug.config.jobs import Cluster
from divaug.config.layers import experiment_name, method_label
from divaug.config.registry import CHAIN, HEADS
from divaug.config.schema import FAMILY_OF, Component, Config
from divaug.config.tables import protocol_fingerprint
from divaug.data.load import dataset_of
from divaug.report.tuning import read_tuning
from divaug.runs.folder import RunFolder
from divaug.study.methods import train_methods

SLOTS = {**FAMILY_OF, "head": HEADS}
SCORE = "val_bal_acc"  # mean recall of the validation images at the last epoch
VAL_FRAC = 0.2
OF = ["protocol", "data", "method"]  # what trials are of


@dataclass(frozen=True)
class Trial:
    """One configuration of a method.

    Attributes:
        method: Label of the method as it was asked for.
        number: 0 has the method's defaults, the published ones where a paper has them.
        config: How it is trained and judged: one seed, with validation images.
    """

    method: str
    number: int
    config: Config


def trials_of(config: Config, k: int, *, named_val: bool = False, seed: int = 0) -> list[Trial]:
    """Return a method's configurations: its defaults, then draws from the ranges of its components.

    A component declares the ranges where it is registered; a value that the method itself states, or the command line,
    is kept. Draw i of a hyperparameter depends on its name, i and the seed alone, so that methods which share a
    component try the same values.

    Args:
        config: A method, of any seed.
        k: Configurations, >= 1. A method without a range has one.
        named_val: Whether the data bring validation images; else a fifth of the cut is held out, where neither
            ``holdout`` nor ``val_frac`` is given.
        seed: Seed of the draws.

    Returns:
        k trials or fewer: configurations that are the same are tried once.
    """
    plain = replace(config, experiment=f"{experiment_name(config)}-tune", tracking="off")
    if not config.holdout and not config.val_frac and not named_val:
        plain = replace(plain, val_frac=VAL_FRAC)
    found: dict[str, Trial] = {}
    for number in range(k):
        drawn = plain if not number else _drawn(plain, seed, number)
        found.setdefault(method_label(drawn), Trial(method_label(config), len(found), drawn))
    return list(found.values())


def _drawn(config: Config, seed: int, number: int) -> Config:
    changed = {slot: _draw(slot, getattr(config, slot), seed, number) for slot in SLOTS}
    phases = tuple(
        replace(phase, components={slot: _draw(slot, c, seed, number) for slot, c in phase.components.items()})
        for phase in config.phases
    )
    return replace(config, phases=phases, **changed)


def _draw(slot: str, component: Component, seed: int, number: int) -> Component:
    """Return a component with the hyperparameters drawn that it declares and that are not stated."""
    registry, steps = SLOTS[slot], component.name.split("+")
    ranges = {}
    for step in steps:
        if len(steps) == 1 and registry.entry(step).name == CHAIN:
            continue
        before = f"{step}." if len(steps) > 1 else ""
        ranges |= {
            f"{before}{option}": (step, option, limits) for option, limits in registry.entry(step).ranges.items()
        }
    options = dict(component.options)
    for key, (step, option, limits) in ranges.items():
        if key not in options and option not in {k.replace("-", "_") for k in options.get(step, {})}:
            options[key] = draw(limits, stream(seed, f"tune-{slot}-{step}-{option}", 0, number))
    return replace(component, options=options)


def draw(limits: Any, rng: np.random.Generator) -> Any:
    """Draw a value from a range, as ``Entry.ranges`` has them; numbers have two digits, as a person would write them.

    Example:
        >>> import numpy as np
        >>> from divaug.study.tune import draw
        >>> rng = np.random.default_rng(0)
        >>> draw((0.1, 10.0, "log"), rng), draw((2, 10), rng), draw([0.9, 0.99], rng)
        (1.9, 6, 0.9)
    """
    if isinstance(limits, list):
        return limits[int(rng.integers(len(limits)))]
    low, high, *scale = limits
    if scale == ["log"]:
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    elif isinstance(low, int) and isinstance(high, int):
        return int(rng.integers(low, high + 1))
    else:
        value = rng.uniform(low, high)
    return min(max(float(f"{value:.2g}"), low), high)


def tune(configs: Sequence[Config], k: int, jobs: int | Cluster = 1) -> tuple[list[Config], Any]:
    """Choose every method's hyperparameters on validation images; return its runs with them, and what was tried.

    Each configuration is trained once, on the first seed's cut without the validation images: those of the data, the
    ``--holdout`` images or ``--val-frac`` of the cut (a fifth of it by default). The highest mean recall of validation
    images at the last epoch is chosen; of equals the first, so the defaults. No test result chooses. A
    configuration that diverges has no score and is not chosen. Finished trials are not trained again.

    Args:
        configs: Methods x seeds.
        k: Configurations of every method.
        jobs: As for ``train_methods``.

    Returns:
        The runs, in the order given, and a DataFrame with a row for every trial: ``protocol`` and ``data`` as
        in rows (``report.results``), ``resolved``, the protocol as run folders have it, ``method``, ``trial``,
        ``label`` (the method with its changes), ``val_bal_acc`` (none if it diverged), ``chosen``, ``k``.

    Raises:
        ConfigError: There are no validation images, or some are test images of another seed.
        DivaugError: Every configuration of a method diverged.
    """
    import pandas as pd

    first, dataset = configs[0].seed, dataset_of(configs[0], configs[0].split_seed)
    if dataset.carved and configs[0].vary != "init" and len({config.seed for config in configs}) > 1:
        raise ConfigError(
            "every seed carves other test images off these data, so one seed's validation images are another's test "
            "images: give --test, or --vary init, or one seed with --tune"
        )
    trials = [
        trial
        for config in configs
        if config.seed == first
        for trial in trials_of(config, k, named_val=dataset.val is not None)
    ]
    folders = [RunFolder.of(trial.config) for trial in trials]
    with suppress(DivergedError):  # it was said, and such a trial has no result
        train_methods([trial.config for trial in trials], folders, jobs=jobs)
    finished = [(trial, folder) for trial, folder in zip(trials, folders, strict=True) if folder.finished]
    if lost := sorted({trial.method for trial in trials} - {trial.method for trial, _ in finished}):
        raise DivaugError(f"every configuration of {', '.join(lost)} diverged; lower --lr, or use --precision fp32")
    protocol, data = protocol_fingerprint(configs[0]), finished[0][1].manifest["data"]
    # What folders of runs hold: the trial's is without its own validation images.
    asked = {key: getattr(configs[0], key) for key in ("val_frac", "holdout")}
    resolved = protocol_fingerprint(replace(finished[0][1].config, **asked))
    rows, best = [], {}
    for trial, folder in zip(trials, folders, strict=True):
        score = folder.result.get(f"final/{SCORE}") if folder.finished else None
        rows.append({
            "protocol": protocol, "resolved": resolved, "data": data, "method": trial.method, "trial": trial.number,
            "label": folder.label, SCORE: score, "k": k,
        })  # fmt: skip
        if score is not None and (trial.method not in best or score > best[trial.method][0]):
            best[trial.method] = score, trial
    if without := sorted({trial.method for trial in trials} - set(best)):
        raise ConfigError(
            f"no validation image was judged for {', '.join(without)}: give --holdout or a larger --val-frac"
        )
    for row in rows:
        row["chosen"] = best[row["method"]][1].number == row["trial"]
    return [_with(config, best[method_label(config)][1].config) for config in configs], pd.DataFrame(rows)


def keep(file: Path, trials: Any) -> None:
    """Write what was tried, beside earlier trials of other methods, protocols and data."""
    import pandas as pd

    if (before := read_tuning(file)) is not None:
        again = pd.MultiIndex.from_frame(before[OF]).isin(pd.MultiIndex.from_frame(trials[OF]))
        trials = pd.concat([before[~again], trials], ignore_index=True)
    make_folder(file.parent)
    write_text(file, trials.to_csv(index=False, float_format="%.4f"))


def _with(config: Config, chosen: Config) -> Config:
    """Return a run with the components of the trial that was chosen."""
    return replace(config, phases=chosen.phases, **{slot: getattr(chosen, slot) for slot in SLOTS})

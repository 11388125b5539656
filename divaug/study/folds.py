"""Cross-validation on one's own images: every candidate in every fold, and one model of all images."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from divaug.base.errors import ConfigError, DataError, DivaugError, DivergedError
from divaug.config.layers import experiment_name, method_label
from divaug.config.schema import Config, default_of
from divaug.data.images import CARVED, Part
from divaug.data.load import Data, dataset_of, fit
from divaug.data.longtail import Cut
from divaug.data.split import ALWAYS, folds_of
from divaug.runs.folder import RunFolder
from divaug.runs.loop import run
from divaug.study.runner import Task, run_tasks

BY_GROUP = "groups"  # one fold for each group
SENT = 2**28  # bytes of images


@dataclass(frozen=True)
class Deal:
    """All images of a data set, dealt into folds.

    Attributes:
        dataset: The data set; a test part that it names is not among the images.
        identity: Its identity.
        images: All images that are not in a named test part.
        fold: The fold of every image; -1 is trained on in all of them.
        named_test: Whether the data name a test part of their own.
    """

    dataset: Any
    identity: str
    images: Part
    fold: np.ndarray
    named_test: bool

    @property
    def folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    @property
    def tested(self) -> np.ndarray:
        """Images that some fold tests, ascending."""
        return np.flatnonzero(self.fold != ALWAYS)


def deal(config: Config, folds: int | str) -> Deal:
    """Deal a configuration's images into folds: stratified, whole groups, identical images together.

    Args:
        config: Names the images; ``split_seed`` is the seed of the deal.
        folds: Number of folds, or ``groups`` for one fold a group.

    Raises:
        DataError: Images are missing or damaged, or there are fewer groups than folds.
        ConfigError: ``groups``, and the images have none.
    """
    dataset = dataset_of(config, config.split_seed, dealt=True)
    parts = [dataset.train, dataset.val, dataset.test if dataset.carved else None]
    images = Part.joined([part for part in parts if part is not None])
    if folds == BY_GROUP and images.groups is None:
        raise ConfigError("--folds groups needs images with groups (a column group)")
    names = [*dataset.class_names, *(() if images.paths is None else images.paths.tolist())]
    if odd := [name for name in names if any("\ud800" <= character <= "\udfff" for character in name)]:
        shown = odd[0].encode("utf-8", "backslashreplace").decode()
        raise DataError(f"{len(odd)} file or class names are not UTF-8, so no table can name them: rename {shown}")
    number = None if folds == BY_GROUP else int(folds)
    fold = folds_of(images.labels, number, config.split_seed, images.groups, images.contents)
    return Deal(dataset, dataset.identity, images, fold, not dataset.carved)


def folder_of(config: Config, dealt: Deal, fold: int | None) -> RunFolder:
    """Return the folder of a method's run in a fold, or, for None, on all images.

    The images in their order, the deal and the seed are in its name: after a label or a group was mended, or a file
    renamed, all folds are trained anew.
    """
    said = f"{dealt.identity} {dealt.images.sha256} {config.seed}"
    digest = hashlib.sha256(said.encode() + dealt.fold.astype("<i8").tobytes()).hexdigest()[:8]
    named = replace(config, vary=default_of("vary"))  # presets differ in it, and here it has no effect
    experiment = f"{experiment_name(named)}-{dealt.folds}folds-{digest}"
    where = Path(config.output_dir) / experiment / method_label(config)
    return RunFolder(where / ("all" if fold is None else f"fold{fold}"))


def data_of(dealt: Deal, fold: int | None) -> Data:
    """Return the data of a run: all images but the fold's to train on, the fold's to test on.

    For None all images are trained on. They are tested on the data's own test part, or, where there is none, on
    themselves: such a number says nothing, and nothing of it is reported.
    """
    keep = np.arange(len(dealt.fold)) if fold is None else np.flatnonzero(dealt.fold != fold)
    train = dealt.images.take(keep)
    own = dealt.dataset.test if dealt.named_test else dealt.images
    test = own if fold is None else dealt.images.take(np.flatnonzero(dealt.fold == fold))
    counts = np.bincount(train.labels, minlength=dealt.dataset.num_classes)
    return Data(dealt.dataset, Cut(keep, counts, counts), train, None, test, counts, (), dealt.identity, 0, "native")


def notes_of(dealt: Deal) -> list[str]:
    """Return what a reader must know of a deal: what becomes of named parts, and of images that no fold tests."""
    notes, val = [], dealt.dataset.val
    if dealt.named_test:
        n = len(dealt.dataset.test.labels)
        notes.append(f"{n} images of the named test part are left out: folds test the methods, and the model is not "
                     "tested on them; divaug predict applies it to them")  # fmt: skip
    if val is not None:
        notes.append(f"{len(val.labels)} images of the named validation part are dealt into the folds like the others")
    if never := int((dealt.fold == ALWAYS).sum()):
        said = f"{never} {'image is' if never == 1 else 'images are'} in every fold's training part, and never tested"
        counts = np.bincount(dealt.images.labels[dealt.tested], minlength=dealt.dataset.num_classes)
        alone = ", ".join(name for name, n in zip(dealt.dataset.class_names, counts, strict=True) if n == 0)
        if alone:
            said += f": all images of {alone} fell into one fold, which would have had none of them to train on"
        if others := never - int((counts == 0)[dealt.images.labels].sum()):
            said += f"; {others} {'is' if others == 1 else 'are'} of other classes, in a group with them"
        notes.append(said)
    return notes


def cross_validate(
    configs: Sequence[Config],
    dealt: Deal,
    folds: int | str,
    *,
    jobs: int = 1,
    after: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, np.ndarray]:
    """Train every candidate in every fold, or continue where they stopped.

    Args:
        configs: One per candidate.
        dealt: Their images, of ``deal``.
        folds: As given to ``deal``: processes that images are too large to be sent to deal them again.
        jobs: Runs at once, with several each in a process of one thread.
        after: Runs of the caller that follow, for the time left.
        say: Called with a line for every run.

    Returns:
        Each candidate's logits of the tested images in their order, ``(M, C)``.

    Raises:
        DivaugError: A run failed.
        Interrupted: A signal came; the same command continues.
    """
    for note in dealt.dataset.notes:
        if not note.startswith(CARVED):  # the folds are the test
            say(f"note: {note}")
    for note in notes_of(dealt):
        say(f"note: {note}")
    pairs = [(config, fold) for fold in range(dealt.folds) for config in configs]
    finished = [pair for pair in pairs if folder_of(pair[0], dealt, pair[1]).finished]
    for config, fold in finished:
        train_in_fold(config, dealt, fold)  # trains nothing: makes sure that it is the same run
    tasks = [
        Task(
            f"{method_label(config)}, fold {fold + 1} of {dealt.folds}",
            partial(_train, config, folds, fold, dealt if jobs == 1 or _is_small(dealt) else None),
            folder_of(config, dealt, fold).pace,
        )
        for config, fold in pairs
        if (config, fold) not in finished
    ]
    run_tasks(tasks, jobs=jobs, after=after, say=say)
    logits = {}
    for config in configs:
        every = np.full((len(dealt.fold), dealt.dataset.num_classes), np.nan)
        for fold in range(dealt.folds):
            outputs = np.load(folder_of(config, dealt, fold).path / "test_outputs.npz")
            every[dealt.fold == fold] = outputs["logits"]
        logits[method_label(config)] = every[dealt.tested]
    return logits


def _is_small(dealt: Deal) -> bool:
    """Return whether the images are better sent to a process than read there anew."""
    return isinstance(dealt.images.images, np.ndarray) and dealt.images.images.nbytes < SENT


def _train(config: Config, folds: int | str, fold: int, dealt: Deal | None) -> None:
    try:
        train_in_fold(config, dealt or deal(config, folds), fold)
    except DivergedError as error:
        raise DivaugError(str(error)) from error  # without this fold nothing is told of the method, so all stop


def train_in_fold(config: Config, dealt: Deal, fold: int | None) -> RunFolder:
    """Train one network, or continue; ``fold`` None trains on all images. See ``data_of``."""
    data, folder = data_of(dealt, fold), folder_of(config, dealt, fold)
    counts = tuple(np.maximum(data.counts, 1).tolist())
    return run(replace(fit(config, data), profile="custom", counts=counts, vary="init"), folder, data)
